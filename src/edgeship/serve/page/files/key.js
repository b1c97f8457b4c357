// The API key: asked for when the server wants one, kept until the tab is closed, and sent to this server only.

import { el, textButton } from "./dom.js";

const NAME = "edgeship.key";
let kept = sessionStorageOrNull()?.getItem(NAME) ?? "";
let asking = null;

export function keyInUse() {
  return kept;
}

/** Whether the user gave a key. Several who ask at once share one question. */
export function askForKey(why = "") {
  asking ??= asked(why).finally(() => (asking = null));
  return asking;
}

function asked(why) {
  const field = el("input", { id: "key", type: "password", autocomplete: "off", "aria-describedby": "key-why" });
  const form = el(
    "form",
    { method: "dialog" },
    el("h2", {}, "API key"),
    el("p", { id: "key-why" }, why || "Requests carry the key that you give here."),
    el("label", { for: "key" }, "Key"),
    field,
    el("p", { class: "hint" }, "It is kept until this tab is closed. An empty one is forgotten."),
    el(
      "div",
      { class: "dialog-buttons" },
      textButton("Cancel", { type: "submit", value: "no", class: "button plain" }),
      textButton("Use this key", { type: "submit", value: "yes", class: "button first" }),
    ),
  );
  const dialog = el("dialog", { "aria-label": "API key" }, form);
  document.body.append(dialog);
  // Enter in the field presses the first button of a form; here it means the second.
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") event.preventDefault(), dialog.close("yes");
  });
  dialog.showModal();
  field.focus();
  return new Promise((answer) => {
    dialog.addEventListener("close", () => {
      const given = dialog.returnValue === "yes";
      if (given) keep(field.value.trim());
      dialog.remove();
      answer(given);
    });
  });
}

function keep(key) {
  kept = key;
  sessionStorageOrNull()?.setItem(NAME, key);
}

function sessionStorageOrNull() {
  try {
    return window.sessionStorage;
  } catch {
    return null; // the user lets no page keep anything
  }
}
