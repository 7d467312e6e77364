// What the page says of its work: status, progress, problems; and where the focus goes when one of them leaves.

import { apiKey } from "./service.js";
import { refusalInWords } from "./words.js";

const $ = (id) => document.getElementById(id);

export function say(text) {
  $("status").textContent = text;
}

/** Tells an error; `again` is what "Try again" does, null where that would change nothing. */
export function tell(error, again) {
  const { title, message } = refusalInWords(error, apiKey());
  say("");
  $("problem-title").textContent = `${title ?? "This did not work"}:`;
  $("problem-detail").textContent = message;
  $("problem-reference").textContent = error.reference ? `Reference for the operator: ${error.reference}` : "";
  $("problem-reference").hidden = !error.reference;
  $("retry").hidden = !again;
  $("retry").onclick = again;
  $("problem").hidden = false;
}

export function clearProblem() {
  hide($("problem"));
}

export function busy(is, text) {
  $("busy").hidden = !is;
  if (is) {
    $("cancel").hidden = false;
    hide($("again"), $("cancel"));
    say(text);
  } else {
    hide($("cancel"), $("again"));
  }
}

/** Says that the user ended it; `again` is what "Segment again" does. */
export function cancelled(again) {
  say("Cancelled.");
  $("again").onclick = again;
  $("again").hidden = !again;
}

// Whoever works by keyboard must not be thrown back to the top of the page when what they pressed goes away.
export function hide(part, next = null) {
  const held = part.contains(document.activeElement);
  part.hidden = true;
  if (!held) return;
  const at = next && !next.hidden ? next : $($("work").hidden ? "choose" : "canvas");
  at.focus({ preventScroll: true });
}
