// What is said to the user beside the conversation: for a moment on the screen, and to who listens instead of reading.

import { el } from "./dom.js";

const SHOWN_MS = 8000;

/** Shows a sentence. action: [label, function] of a button beside it. */
export function notice(text, action) {
  const shown = el("div", { class: "notice" }, el("span", {}, text));
  if (action) {
    const act = () => (shown.remove(), action[1]());
    shown.append(el("button", { type: "button", class: "button plain", onclick: act }, action[0]));
  }
  document.getElementById("notices").replaceChildren(shown);
  setTimeout(() => shown.remove(), SHOWN_MS);
}

/** Lets a screen reader say a text after what it is saying. It is then gone, so that nobody reads it twice. */
export function say(text) {
  const said = el("p", {}, text);
  document.getElementById("heard").append(said);
  setTimeout(() => said.remove(), SHOWN_MS);
}
