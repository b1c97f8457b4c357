// The list of conversations: found, opened, named, deleted.

import { stop } from "./answering.js";
import { el, iconButton, keepingFocus } from "./dom.js";
import { notice } from "./notices.js";
import * as shelf from "./shelf.js";
import { title } from "./tree.js";

const search = document.getElementById("search");
const list = document.getElementById("conversations");
let naming = false;
let pressed = false;

/** Makes the list ready. open: shows a conversation by its id, null for a new one. current: the id of the open one. */
export function listing({ open, current }) {
  let shown = null;
  const render = () => {
    // Somebody is typing into the list, or about to click: a row that moves away would take the click with it.
    if (naming || pressed) return;
    const conversations = found();
    const now = JSON.stringify([current(), conversations.map((one) => [one.id, title(one)])]);
    if (now === shown) return;
    shown = now;
    keepingFocus(() => list.replaceChildren(...conversations.map(row)), () => search);
  };
  const again = () => ((shown = null), render());
  const row = (conversation) => {
    const { id } = conversation;
    const here = id === current();
    const name = title(conversation);
    const state = { "aria-current": here && "true", "data-focus": `open-${id}` };
    const link = el("a", { href: `#/c/${id}`, title: name, ...state }, name);
    const rename = () => renamed(item, conversation, again);
    const remove = () => deleted(conversation, { here, open, render });
    const item = el(
      "li",
      { class: here && "is-here" },
      link,
      iconButton("edit", `Rename ${name}`, rename, { "data-focus": `rename-${id}` }),
      iconButton("trash", `Delete ${name}`, remove, { "data-focus": `delete-${id}` }),
    );
    return item;
  };
  const released = () => ((pressed = false), render());
  list.addEventListener("pointerdown", () => (pressed = true));
  window.addEventListener("click", released);
  // No click comes where the pointer was moved away; where one does, it comes before this.
  for (const end of ["pointerup", "pointercancel"]) window.addEventListener(end, () => setTimeout(released));
  search.addEventListener("input", render);
  window.addEventListener("storage", render);
  render();
  return render;
}

function found() {
  const wanted = search.value.trim().toLowerCase();
  const texts = (conversation) => [title(conversation), ...conversation.nodes.map((node) => node.content)];
  const has = (conversation) => texts(conversation).some((text) => text.toLowerCase().includes(wanted));
  const conversations = shelf.all().filter((conversation) => !wanted || has(conversation));
  list.classList.toggle("is-empty", !conversations.length);
  list.dataset.empty = wanted ? "Nothing found" : "Conversations are kept in this browser only.";
  return conversations;
}

function renamed(item, conversation, render) {
  const known = { "aria-label": "Name of the conversation", "data-focus": `rename-${conversation.id}` };
  const field = el("input", { type: "text", maxlength: 200, ...known });
  field.value = title(conversation);
  naming = true;
  const close = (keep) => {
    if (!naming) return;
    naming = false;
    if (keep) shelf.rename(conversation.id, field.value.trim());
    render();
  };
  field.addEventListener("keydown", (event) => {
    // The key would press the button that has the focus next.
    if (event.key === "Enter") event.preventDefault(), close(true);
    if (event.key === "Escape") event.stopPropagation(), close(false);
  });
  field.addEventListener("blur", () => close(true));
  item.replaceChildren(field);
  field.focus();
  field.select();
}

function deleted(conversation, { here, open, render }) {
  stop(conversation);
  shelf.forget(conversation.id);
  if (here) open(null);
  render();
  const undo = () => {
    shelf.restore(conversation);
    if (here) open(conversation.id);
    render();
  };
  notice(`Deleted “${title(conversation)}”.`, ["Undo", undo]);
}
