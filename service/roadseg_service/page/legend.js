// The table of classes: which are shown, in which colours, over which areas. Names come from files: text, never markup.

const number = new Intl.NumberFormat("en", { useGrouping: true });

/** A share, from 0 to 1, in percent; what is a little is not said to be nothing, nor what is almost all to be all. */
export function percent(share, digits = 1) {
  const step = 10 ** -digits;
  const rounded = (100 * share).toFixed(digits);
  if (share > 0 && Number(rounded) === 0) return `<${step} %`;
  if (share < 1 && Number(rounded) === 100) return `>${100 - step} %`;
  return `${rounded} %`;
}

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** Text in its own direction, so that a right-to-left name leaves what stands beside it alone; it may break after "_". */
export function isolated(text) {
  const parts = text.split(/(?<=_)/);
  return element("bdi", {}, ...parts.flatMap((part) => [part, element("wbr")]));
}

export class Legend {
  #body;
  #boxes = new Map(); // id -> checkbox
  #digest = null; // of the model that the classes belong to
  #usual = true; // whether a class is shown
  #unlike = new Set(); // ids of those that are not as usual

  /** `onToggle` is called without arguments after each change. */
  constructor(body, onToggle) {
    this.#body = body;
    this.#body.addEventListener("change", () => {
      this.#keep();
      onToggle();
    });
  }

  /** `classes` are those of an answer; the largest comes first. What was hidden stays so, for the same model. */
  show({ classes, model, image }) {
    if (model.digest !== this.#digest) this.#setUsual(true);
    this.#digest = model.digest;
    const pixels = image.width * image.height;
    this.#boxes.clear();
    const largestFirst = classes.toSorted((a, b) => b.area_px - a.area_px);
    const rows = largestFirst.map((entry) => this.#row(entry));
    const without = pixels - classes.reduce((sum, entry) => sum + entry.area_px, 0);
    if (without > 0) rows.push(row("no class", without, without / pixels, null));
    this.#body.replaceChildren(...rows);
  }

  shown() {
    return new Set([...this.#boxes].filter(([, box]) => box.checked).map(([id]) => id));
  }

  isWhole() {
    return this.shown().size === this.#boxes.size;
  }

  setAll(checked) {
    for (const box of this.#boxes.values()) box.checked = checked;
    this.#setUsual(checked);
  }

  #setUsual(checked) {
    this.#usual = checked;
    this.#unlike.clear();
  }

  #keep() {
    for (const [id, box] of this.#boxes) {
      if (box.checked === this.#usual) this.#unlike.delete(id);
      else this.#unlike.add(id);
    }
  }

  #row(entry) {
    const box = element("input", { type: "checkbox", checked: this.#usual !== this.#unlike.has(entry.id) });
    this.#boxes.set(entry.id, box);
    const swatch = element("span", { className: "swatch", ariaHidden: "true" });
    swatch.style.backgroundColor = `rgb(${entry.colour.join(" ")})`;
    const label = element("label", {}, box, swatch, isolated(entry.name));
    return row(label, entry.area_px, entry.share, entry.mean_confidence ?? null);
  }
}

function row(name, area, share, confidence) {
  const cells = [number.format(area), percent(share), confidence === null ? "–" : percent(confidence, 0)];
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, name),
    ...cells.map((text) => element("td", { className: "number", textContent: text })),
  );
}
