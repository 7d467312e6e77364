// Where images come from: chosen, dropped, pasted, or the example.

const EXAMPLE = "example.jpg";

export class Intake {
  #input;
  #hint;
  #take;

  /** `take` is called with a file, its name, and how many files it is the first of. */
  constructor(input, hint, take) {
    this.#input = input;
    this.#hint = hint;
    this.#take = take;
    input.addEventListener("change", () => {
      this.#first([...input.files]);
      input.value = ""; // so that the same file can be chosen again
    });
    document.addEventListener("paste", (event) => this.#onPaste(event));
    document.addEventListener("dragover", (event) => this.#onDragOver(event));
    document.addEventListener("dragleave", (event) => event.relatedTarget || this.#show(false));
    document.addEventListener("drop", (event) => this.#onDrop(event));
  }

  choose() {
    this.#input.click();
  }

  async fetchExample() {
    const response = await fetch(new URL(EXAMPLE, import.meta.url));
    if (!response.ok) throw new Error(`the example could not be loaded (status ${response.status})`);
    this.#take(await response.blob(), EXAMPLE, 1);
  }

  #first(files, unnamed = "image") {
    if (!files.length) return;
    this.#take(files[0], files[0].name || unnamed, files.length);
  }

  #onPaste(event) {
    const files = [...event.clipboardData.files];
    if (!files.length) return; // text, for the key's field
    event.preventDefault();
    this.#first(files, "pasted");
  }

  #onDragOver(event) {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    this.#show(true);
  }

  #onDrop(event) {
    this.#show(false);
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault(); // otherwise the browser opens the file in the page's place
    this.#first([...event.dataTransfer.files]);
  }

  #show(is) {
    this.#hint.hidden = !is;
    document.body.classList.toggle("dropping", is);
  }
}
