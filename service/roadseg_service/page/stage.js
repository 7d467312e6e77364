// The picture and its mask on a canvas: zoom, pan, the cursor that reads pixels, and the line between before and after.

const LARGEST_ZOOM = 32;
const STEP = 1.25;

export class Stage {
  #canvas;
  #context;
  #picture = null; // {bitmap, width, height}; the bitmap may be smaller than the picture, or null
  #mask = null; // an ImageBitmap
  #scale = 1; // canvas pixels to a pixel of the picture
  #left = 0; // of the picture's corner on the canvas
  #top = 0;
  #fits = true;
  #cursor = null;
  #pending = false;
  #pointers = new Map();
  opacity = 0.5;
  wipe = 0; // the share of what is seen of the picture, from its left, that shows no mask

  /**
   * `onRead` is called with {x, y, spoken} or null; `onZoom` with (scale, whether it fits); `onLine` with where the line
   * between before and after is, as a share of the canvas's width, or null where there is no mask.
   */
  constructor(canvas, { onRead, onZoom, onLine }) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    this.onRead = onRead;
    this.onZoom = onZoom;
    this.onLine = onLine;
    new ResizeObserver(() => this.#resize()).observe(canvas);
    canvas.addEventListener("keydown", (event) => this.#onKey(event));
    const around = canvas.parentElement; // what lies over the canvas can be read and zoomed through
    around.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false });
    around.addEventListener("pointerdown", (event) => this.#onDown(event));
    around.addEventListener("pointermove", (event) => this.#onMove(event));
    for (const name of ["pointerup", "pointercancel"]) around.addEventListener(name, (event) => this.#onUp(event));
    around.addEventListener("pointerleave", (event) => event.pointerType !== "touch" && this.#point(null));
  }

  show(picture) {
    if (this.#picture?.bitmap !== picture.bitmap) this.#picture?.bitmap?.close?.();
    this.#picture = picture;
    this.setMask(null);
    this.#point(null);
    this.#canvas.style.aspectRatio = `${picture.width} / ${picture.height}`;
    this.#resize();
    this.fit();
  }

  setMask(bitmap) {
    this.#mask?.close();
    this.#mask = bitmap;
    this.draw();
  }

  fit() {
    if (!this.#picture) return;
    const { width, height } = this.#picture;
    this.#fits = true;
    this.#scale = Math.min(this.#canvas.width / width, this.#canvas.height / height, LARGEST_ZOOM);
    this.#place(0, 0);
  }

  /** Zooms so that the canvas point (x, y), by default the middle, stays where it is. */
  zoomTo(scale, x = this.#canvas.width / 2, y = this.#canvas.height / 2) {
    if (!this.#picture) return;
    const bounded = Math.min(LARGEST_ZOOM, Math.max(scale, Math.min(this.#fitting(), 1)));
    const factor = bounded / this.#scale;
    this.#fits = false;
    this.#scale = bounded;
    this.#place(x - (x - this.#left) * factor, y - (y - this.#top) * factor);
  }

  zoomBy(steps) {
    const at = this.#cursor && this.#onCanvas(this.#cursor);
    this.zoomTo(this.#scale * STEP ** steps, at?.x, at?.y);
  }

  /** The share of what is seen of the picture that lies left of a place in the window. */
  shareLeftOf(clientX) {
    const [from, to] = this.#seen();
    const { x } = this.#fromEvent({ clientX, clientY: 0 });
    return Math.min(1, Math.max(0, (x - from) / (to - from)));
  }

  draw() {
    if (this.#pending) return;
    this.#pending = true;
    requestAnimationFrame(() => {
      this.#pending = false;
      this.#paint();
    });
  }

  // From where to where on the canvas there is picture.
  #seen() {
    const right = this.#left + this.#picture.width * this.#scale;
    return [Math.max(0, this.#left), Math.min(this.#canvas.width, right)];
  }

  #fitting() {
    return Math.min(this.#canvas.width / this.#picture.width, this.#canvas.height / this.#picture.height);
  }

  #resize() {
    const ratio = globalThis.devicePixelRatio || 1;
    const box = this.#canvas.getBoundingClientRect();
    const [width, height] = [Math.round(box.width * ratio), Math.round(box.height * ratio)];
    if (!width || !height) return;
    if (width !== this.#canvas.width || height !== this.#canvas.height) {
      this.#canvas.width = width;
      this.#canvas.height = height;
    }
    if (this.#fits) this.fit();
    else this.#place(this.#left, this.#top);
  }

  // Puts the picture's corner there, but leaves no gap at a side that the picture could fill.
  #place(left, top) {
    if (!this.#picture) return;
    const bounded = (wanted, room) => (room >= 0 ? room / 2 : Math.min(0, Math.max(room, wanted)));
    this.#left = Math.round(bounded(left, this.#canvas.width - this.#picture.width * this.#scale));
    this.#top = Math.round(bounded(top, this.#canvas.height - this.#picture.height * this.#scale));
    // One finger scrolls the page unless there is something to move in here.
    this.#canvas.style.touchAction = this.#scale > this.#fitting() * 1.001 ? "none" : "pan-y";
    this.onZoom(this.#scale, this.#fits);
    this.draw();
  }

  #paint() {
    const { width, height } = this.#canvas;
    const context = this.#context;
    context.clearRect(0, 0, width, height);
    if (!this.#picture) return;
    const [from, to] = this.#seen();
    const line = Math.round(from + this.wipe * (to - from));
    this.onLine(this.#mask && line / width);
    const box = [this.#left, this.#top, this.#picture.width * this.#scale, this.#picture.height * this.#scale];
    context.imageSmoothingEnabled = this.#scale < 1;
    if (this.#picture.bitmap) context.drawImage(this.#picture.bitmap, ...box);
    if (this.#mask) {
      context.save();
      context.beginPath();
      context.rect(line, 0, width - line, height);
      context.clip();
      context.globalAlpha = this.opacity;
      context.drawImage(this.#mask, ...box);
      context.restore();
    }
    if (this.#cursor) this.#mark(this.#cursor);
  }

  // Dark beside light, to be seen on anything.
  #line(fromX, fromY, toX, toY) {
    for (const [colour, thickness] of [["#000", 4], ["#fff", 2]]) {
      this.#context.strokeStyle = colour;
      this.#context.lineWidth = thickness;
      this.#context.beginPath();
      this.#context.moveTo(fromX, fromY);
      this.#context.lineTo(toX, toY);
      this.#context.stroke();
    }
  }

  #mark(cursor) {
    const { x, y } = this.#onCanvas(cursor);
    const gap = Math.max(4, this.#scale / 2 + 2);
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      this.#line(x + dx * gap, y + dy * gap, x + dx * (gap + 10), y + dy * (gap + 10));
    }
  }

  #onCanvas({ x, y }) {
    return { x: this.#left + (x + 0.5) * this.#scale, y: this.#top + (y + 0.5) * this.#scale };
  }

  #fromEvent(event) {
    const box = this.#canvas.getBoundingClientRect();
    const ratio = this.#canvas.width / box.width;
    return { x: (event.clientX - box.left) * ratio, y: (event.clientY - box.top) * ratio };
  }

  #pointAt(event) {
    const at = this.#fromEvent(event);
    const x = Math.floor((at.x - this.#left) / this.#scale);
    const y = Math.floor((at.y - this.#top) / this.#scale);
    const { width, height } = this.#picture;
    this.#point(x >= 0 && y >= 0 && x < width && y < height ? { x, y } : null);
  }

  #point(pixel, spoken = false) {
    this.#cursor = spoken || this.#pointers.size ? pixel : null; // a mouse has an arrow of its own
    this.onRead(pixel && { ...pixel, spoken });
    this.draw();
  }

  #onKey(event) {
    if (!this.#picture || event.ctrlKey || event.metaKey || event.altKey) return;
    const { width, height } = this.#picture;
    const step = event.shiftKey ? Math.max(10, Math.round(Math.max(width, height) / 20)) : 1;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    const actions = {
      "+": () => this.zoomBy(1),
      "=": () => this.zoomBy(1),
      "-": () => this.zoomBy(-1),
      0: () => this.fit(),
      1: () => this.zoomTo(1),
      Home: () => this.#moveCursor(-width, 0),
      End: () => this.#moveCursor(width, 0),
      Escape: () => this.#point(null),
    };
    const action = moves[event.key] ? () => this.#moveCursor(...moves[event.key]) : actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }

  #moveCursor(dx, dy) {
    const { width, height } = this.#picture;
    const from = this.#cursor;
    const moved = from
      ? { x: Math.min(width - 1, Math.max(0, from.x + dx)), y: Math.min(height - 1, Math.max(0, from.y + dy)) }
      : { x: width >> 1, y: height >> 1 };
    this.#reveal(moved);
    this.#point(moved, true);
  }

  #reveal(pixel) {
    const { x, y } = this.#onCanvas(pixel);
    const outside = (at, size) => Math.min(0, at - 20) || Math.max(0, at - size + 20);
    const [dx, dy] = [outside(x, this.#canvas.width), outside(y, this.#canvas.height)];
    if (dx || dy) this.#place(this.#left - dx, this.#top - dy);
  }

  #onWheel(event) {
    if (!this.#picture || !(event.ctrlKey || event.metaKey)) return; // a plain wheel scrolls the page
    event.preventDefault();
    const at = this.#fromEvent(event);
    this.zoomTo(this.#scale * Math.exp(-event.deltaY / 300), at.x, at.y);
  }

  #onDown(event) {
    if (!this.#picture) return;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, this.#fromEvent(event));
    if (event.pointerType === "touch") this.#pointAt(event);
  }

  #onMove(event) {
    if (!this.#picture) return;
    const before = this.#pointers.get(event.pointerId);
    if (!before) {
      this.#pointAt(event);
      return;
    }
    const now = this.#fromEvent(event);
    const other = [...this.#pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.#pointers.set(event.pointerId, now);
    if (other) this.#pinch(before, now, other);
    else this.#place(this.#left + now.x - before.x, this.#top + now.y - before.y);
  }

  #pinch(before, now, other) {
    const apart = (point) => Math.max(1, Math.hypot(point.x - other.x, point.y - other.y));
    this.zoomTo((this.#scale * apart(now)) / apart(before), (now.x + other.x) / 2, (now.y + other.y) / 2);
  }

  #onUp(event) {
    this.#pointers.delete(event.pointerId);
  }
}
