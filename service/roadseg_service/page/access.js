// The strip below the head of the page, where the API key is given.

import { apiKey, isSendable, useApiKey } from "./service.js";

export class Access {
  #button;
  #form;
  #field;
  #tried = false; // whether a key was given that the service has not answered to yet

  /** `onKey` is called with a key to try, which may be empty, or with null for one that cannot be sent. */
  constructor(button, form, field, onKey) {
    this.#button = button;
    this.#form = form;
    this.#field = field;
    field.value = apiKey();
    button.addEventListener("click", () => (form.hidden ? this.ask() : this.#close()));
    form.addEventListener("keydown", (event) => event.key === "Escape" && this.#close());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const key = field.value.trim();
      if (!isSendable(key)) {
        this.ask();
        onKey(null);
        return;
      }
      this.#tried = true;
      useApiKey(key);
      onKey(key);
    });
  }

  /** Shows the field, ready to be typed into. */
  ask() {
    this.#tried = false;
    this.#open(true);
    this.#field.focus();
    this.#field.select();
  }

  /** The service answered: the key that was given, if one was, is right. Whether one was. */
  accepted() {
    const tried = this.#tried;
    if (tried) this.#close();
    this.#tried = false;
    return tried;
  }

  #close() {
    const held = this.#form.contains(document.activeElement);
    this.#open(false);
    if (held) this.#button.focus();
  }

  #open(is) {
    this.#form.hidden = !is;
    this.#button.ariaExpanded = String(is);
  }
}
