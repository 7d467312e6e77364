// The line between before and after: a slider for the keyboard, and a handle on the picture for mouse and finger.

import { wipeInWords } from "./words.js";

export class Wipe {
  #stage;
  #handle;
  #range;
  #value;
  #held = null; // {id, offset}: the pointer that drags, and how far from the line it took hold

  constructor(stage, { handle, range, value }) {
    this.#stage = stage;
    this.#handle = handle;
    this.#range = range;
    this.#value = value;
    range.addEventListener("input", () => this.#move(range.value / 100));
    handle.addEventListener("pointerdown", (event) => this.#onDown(event));
    handle.addEventListener("pointermove", (event) => this.#onMove(event));
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
      handle.addEventListener(name, ({ pointerId }) => pointerId === this.#held?.id && (this.#held = null));
    }
    handle.addEventListener("mousedown", (event) => {
      event.preventDefault(); // the focus goes to the slider, so that the arrow keys go on from here
      range.focus({ preventScroll: true });
    });
    this.#tell();
  }

  /** Puts the handle there, from 0 at the canvas's left to 1 at its right; null where there is nothing to compare. */
  place(at) {
    this.#handle.hidden = at === null;
    if (at !== null) this.#handle.style.left = `${100 * at}%`;
  }

  enable(is) {
    this.#range.disabled = !is;
  }

  #onDown(event) {
    event.stopPropagation(); // or the picture would be dragged, too
    if (this.#held || event.button !== 0) return;
    this.#handle.setPointerCapture(event.pointerId);
    this.#held = { id: event.pointerId, offset: event.clientX - this.#handle.getBoundingClientRect().left };
  }

  // Without a hold it goes on to the stage, which reads the pixel beneath.
  #onMove(event) {
    if (event.pointerId !== this.#held?.id) return;
    event.stopPropagation();
    const share = this.#stage.shareLeftOf(event.clientX - this.#held.offset);
    this.#range.value = Math.round(100 * share);
    this.#move(share);
  }

  #move(share) {
    this.#stage.wipe = share;
    this.#stage.draw();
    this.#tell();
  }

  #tell() {
    this.#value.textContent = `${this.#range.value} %`;
    this.#range.ariaValueText = wipeInWords(Number(this.#range.value));
    // The knob stays within the picture at both ends.
    this.#handle.style.setProperty("--wipe", this.#stage.wipe);
  }
}
