// The keys, in one table: what is listed is what is done.

import { el, pairs, textButton } from "./dom.js";

/** Listens to the keys. acts: what they do, by its name. */
export function listen(acts) {
  const keys = [
    ["Enter", "Send the message"],
    ["Shift+Enter", "Begin a new line"],
    ["↑", "Edit the last message, in an empty field"],
    ["Esc", "Stop the answer, close what is open"],
    ["Alt+N", "New conversation", "KeyN", acts.fresh],
    ["Alt+F", "Search conversations", "KeyF", acts.search],
    ["Alt+Q", "To the question", "KeyQ", acts.question],
    ["Alt+R", "Answer again", "KeyR", acts.again],
    ["Alt+S", "Settings", "KeyS", acts.settings],
    ["Alt+M", "About the model, or back to the chat", "KeyM", acts.model],
    ["Alt+K", "This list", "KeyK", () => list(keys)],
  ];
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open], :popover-open")) return;
    if (event.key === "Escape") return void acts.escape();
    const plainAlt = event.altKey && !event.ctrlKey && !event.metaKey && !event.shiftKey;
    // By the place of the key: with Alt some systems write another character.
    const known = plainAlt && keys.find(([, , code]) => code === event.code);
    if (known) event.preventDefault(), known[3]();
  });
  return () => list(keys);
}

function list(keys) {
  const rows = pairs(keys.map(([key, what]) => [el("kbd", {}, key), what]));
  const close = el("div", { class: "dialog-buttons" }, textButton("Close", { type: "submit", class: "button first" }));
  const form = el("form", { method: "dialog" }, el("h2", {}, "Keys"), rows, close);
  const dialog = el("dialog", { "aria-label": "Keys", onclose: () => dialog.remove() }, form);
  document.body.append(dialog);
  dialog.showModal();
}
