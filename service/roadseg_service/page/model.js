// What the page says of the model: its name, what it is, and under which terms its weights may be used.

import { element, isolated } from "./legend.js";
import { sizeInWords } from "./words.js";

const UNSPECIFIED = "unspecified"; // as model files say it

function terms(model) {
  return model.weights_licence && model.weights_licence !== UNSPECIFIED ? model.weights_licence : "terms not stated";
}

/** Name, short digest and licence, in the head of the page. */
export function showModelLine(model) {
  const digest = element("code", { textContent: model.digest.slice(0, 12), title: model.digest });
  document.getElementById("model").replaceChildren(isolated(model.name), " ", digest);
  const licence = document.getElementById("licence");
  licence.replaceChildren("Weights: ", isolated(terms(model)));
  licence.hidden = false;
}

/** That nothing is known of it, and why. */
export function showNoModel(why) {
  document.getElementById("model").textContent = `Model: ${why}`;
  document.getElementById("licence").hidden = true;
  document.getElementById("facts").replaceChildren(fact(["Name", why]));
}

/** All of it, into a description list. */
export function showFacts(model) {
  const { taxonomy, engine, device, precision, limits } = model;
  const facts = [
    ["Name", isolated(model.name)],
    ["SHA-256", element("code", { textContent: model.digest })],
    ["Weights", isolated(terms(model))],
    ["Classes", isolated(`${taxonomy.classes.length} of ${taxonomy.name}, version ${taxonomy.version}`)],
    ["Runs in", `${engine}, ${precision}, on ${device}`],
    ["Takes", `up to ${sizeInWords(limits)}`],
  ];
  document.getElementById("facts").replaceChildren(...facts.map(fact));
}

function fact([name, value]) {
  return element("div", {}, element("dt", { textContent: name }), element("dd", {}, value));
}
