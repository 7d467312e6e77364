// The mask on the page's side: what the worker made of it, and what it is asked to paint.

export const NOTHING = 255; // id of pixels that have no class

const policy = globalThis.trustedTypes?.createPolicy("roadseg-worker", { createScriptURL: (url) => url });

class MaskWorker {
  #worker;
  #waiting = new Map();
  #last = 0;

  constructor() {
    const url = new URL("./worker.js", import.meta.url).href;
    this.#worker = new Worker(policy ? policy.createScriptURL(url) : url, { type: "module" });
    this.#worker.addEventListener("message", ({ data }) => this.#settle(data));
    this.#worker.addEventListener("error", (event) => {
      for (const { reject } of this.#waiting.values()) reject(new Error(event.message || "the mask's worker ended"));
      this.#waiting.clear();
    });
  }

  ask(task, values) {
    const number = ++this.#last;
    return new Promise((resolve, reject) => {
      this.#waiting.set(number, { resolve, reject });
      this.#worker.postMessage({ number, task, values });
    });
  }

  #settle({ number, result, error }) {
    const waiting = this.#waiting.get(number);
    this.#waiting.delete(number);
    if (error) waiting?.reject(new Error(error));
    else waiting?.resolve(result);
  }
}

const worker = new MaskWorker();

/** Decodes an answer of the service: {ids, confidence}, Uint8Arrays row by row; confidence is null where none came. */
export function decodeMask(answer) {
  const { width, height } = answer.image;
  const classes = answer.classes.map(({ id, rle }) => ({ id, rle }));
  return worker.ask("decode", { classes, width, height, nothing: NOTHING, plane: planeOf(answer) });
}

/** The mask that was decoded last, as an ImageBitmap that shows the ids in `shown` in their colours. */
export async function paintMask(classes, shown, drawnWidth, drawnHeight) {
  const colours = new Uint8Array(4 * 256);
  for (const { id, colour } of classes) {
    if (shown.has(id)) colours.set([...colour, 255], 4 * id);
  }
  return (await worker.ask("paint", { colours, drawnWidth, drawnHeight })).bitmap;
}

// Grey levels times its scale are confidences.
function planeOf(answer) {
  return answer.confidence?.data ?? null;
}
