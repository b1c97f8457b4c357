// The list of conversations: found, opened, named, deleted.

import { stop } from "./answering.js";
import { el, iconButton, keepingFocus } from "./dom.js";
import { notice } from "./notices.js";
import * as shelf from "./shelf.js";
import { title } from "./tree.js";

const search = document.getElementById("search");
const list = document.getElementById("conversations");

/** Makes the list ready. open: shows a conversation by its id, null for a new one. current: the id of the open one. */
export function listing({ open, current }) {
  const render = () => {
    if (list.querySelector("input")) return; // somebody is typing a name
    keepingFocus(() => list.replaceChildren(...found().map(row)), () => search);
  };
  const row = (conversation) => {
    const here = conversation.id === current();
    const name = title(conversation);
    const rename = iconButton("edit", `Rename ${name}`, () => renamed(item, conversation, render), { "data-focus": `rename-${conversation.id}` });
    const remove = iconButton("trash", `Delete ${name}`, () => deleted(conversation, { here, open, render }), { "data-focus": `delete-${conversation.id}` });
    const link = el("a", { href: `#/c/${conversation.id}`, "aria-current": here && "true", "data-focus": `open-${conversation.id}`, title: name }, name);
    const item = el("li", { class: here && "is-here" }, link, rename, remove);
    return item;
  };
  search.addEventListener("input", render);
  window.addEventListener("storage", render);
  render();
  return render;
}

function found() {
  const wanted = search.value.trim().toLowerCase();
  const has = (conversation) => [title(conversation), ...conversation.nodes.map((node) => node.content)].some((text) => text.toLowerCase().includes(wanted));
  const conversations = shelf.all().filter((conversation) => !wanted || has(conversation));
  list.classList.toggle("is-empty", !conversations.length);
  list.dataset.empty = wanted ? "Nothing found" : "Conversations are kept in this browser only.";
  return conversations;
}

function renamed(item, conversation, render) {
  const field = el("input", { type: "text", "aria-label": "Name of the conversation", maxlength: 200, "data-focus": `rename-${conversation.id}` });
  field.value = title(conversation);
  let open = true;
  const close = (keep) => {
    if (!open) return;
    open = false;
    if (keep) shelf.rename(conversation.id, field.value.trim());
    keepingFocus(() => (field.remove(), render()), () => search);
  };
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") close(true);
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
  notice(`Deleted “${title(conversation)}”.`, ["Undo", () => (shelf.restore(conversation), here ? open(conversation.id) : render())]);
}
