// Puts the page together: which view is shown, what the buttons around it do.

import * as api from "./api.js";
import * as chat from "./chat.js";
import { el, icon, iconButton } from "./dom.js";
import { askForKey } from "./key.js";
import { listing } from "./list.js";
import * as model from "./model.js";
import { notice } from "./notices.js";
import * as settings from "./settings.js";
import * as shelf from "./shelf.js";
import { listen } from "./shortcuts.js";
import * as transfer from "./transfer.js";
import { begun, title } from "./tree.js";

const THEMES = ["system", "light", "dark"];
const by = (id) => document.getElementById(id);
const picker = by("model");
const panel = by("settings");
const file = el("input", {
  type: "file",
  accept: "application/json,.json",
  hidden: true,
  "aria-label": "Conversations to import",
  onchange: imported,
});

let names = [];
let facts = null; // of the model that is chosen

const settingsButton = iconButton("sliders", "Settings", () => toggleSettings(), {
  "aria-expanded": "false",
  "aria-controls": "settings",
});
const menuButton = iconButton("menu", "Conversations", () => toggleShelf(), {
  class: "icon-button menu",
  "aria-expanded": "false",
  "aria-controls": "shelf",
});
const chatLink = el("a", { class: "view", href: "#/" }, icon("chat"), el("span", {}, "Chat"));
const modelLink = el("a", { class: "view", href: "#/" }, icon("chart"), el("span", {}, "Model"));
const menu = el("div", { id: "menu", popover: "auto", "aria-label": "More" });

function start() {
  theme(shelf.preference("theme") ?? "system");
  chat.begin(() => (placeAddress(), renderList()));
  by("skip").addEventListener("click", () => toChat(chat.focusQuestion));
  by("bar").prepend(menuButton);
  by("views").append(chatLink, modelLink);
  by("tools").append(settingsButton, themeButton);
  by("shelf").querySelector(".shelf-head").append(iconButton("plus", "New conversation", fresh));
  const listKeys = listen({
    fresh,
    search: () => (toggleShelf(true), by("search").focus()),
    question: () => toChat(chat.focusQuestion),
    again: chat.answerAgain,
    settings: toggleSettings,
    model: otherView,
    escape,
  });
  menu.append(
    entry("save", "Export this conversation as Markdown", exportMarkdown),
    entry("save", "Export this conversation as JSON", exportOne),
    entry("save", "Export all conversations as JSON", exportAll),
    entry("open", "Import conversations", () => file.click()),
    entry("key", "API key", async () => (await askForKey()) && loadModels()),
    entry("keys", "Keys", listKeys),
  );
  by("shelf-foot").append(iconButton("more", "More", () => {}, { shown: true, popovertarget: "menu" }), menu, file);
  picker.addEventListener("change", () => chosen(picker.value));
  by("scroll").addEventListener("click", () => narrow() && toggleShelf(false));
  window.addEventListener("hashchange", route);
  route();
  loadModels();
}

function entry(drawing, label, act) {
  return iconButton(drawing, label, () => (menu.hidePopover(), act()), { shown: true });
}

function exportMarkdown() {
  transfer.save(transfer.asMarkdown(chat.current()), transfer.fileName(chat.current(), "md"), "text/markdown");
}

function exportOne() {
  const one = chat.current();
  transfer.save(transfer.asJson([one]), transfer.fileName(one, "json"), "application/json");
}

function exportAll() {
  transfer.save(transfer.asJson(shelf.all()), "edgeship-conversations.json", "application/json");
}

const renderList = (() => {
  let render = null;
  return () => (render ??= listing({ open: (id) => go(id ? `#/c/${id}` : "#/"), current: () => chat.current()?.id }))();
})();

/** What the address says after its hash: a conversation, a model, or a new conversation. */
function route() {
  const [, kind, ...rest] = location.hash.split("/");
  const name = decoded(rest.join("/"));
  const aboutModel = kind === "models" && name;
  by("chat").hidden = Boolean(aboutModel);
  by("about").hidden = !aboutModel;
  mark(aboutModel ? modelLink : chatLink);
  toggleShelf(false);
  if (aboutModel) {
    if (!chat.current()) chat.open(begun(picker.value, { ...shelf.lastSettings() }));
    model.show(name);
    document.title = `${name} · Edgeship`;
    by("about").focus();
    return;
  }
  model.hide();
  const found = kind === "c" ? shelf.find(name) : null;
  if (kind === "c" && !found) notice("This conversation is not kept in this browser.");
  if (!found || found !== chat.current()) chat.open(found ?? begun(picker.value, { ...shelf.lastSettings() }));
  opened();
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // somebody typed it
  }
}

function mark(link) {
  for (const other of [chatLink, modelLink]) other.toggleAttribute("aria-current", false);
  link.setAttribute("aria-current", "page");
}

function opened() {
  const one = chat.current();
  if (names.length && !names.includes(one.model)) one.model = picker.value || names[0];
  if (one.model) picker.value = one.model;
  entitle();
  linkViews();
  about(one.model);
  renderSettings();
  renderList();
  if (!narrow()) chat.focusQuestion();
}

function linkViews() {
  const one = chat.current();
  chatLink.href = one.nodes.length ? `#/c/${one.id}` : "#/";
  modelLink.href = `#/models/${encodeURIComponent(picker.value)}`;
}

/** A conversation has an address once something was said in it. */
function placeAddress() {
  const { id, nodes } = chat.current();
  if (!by("chat").hidden && nodes.length) history.replaceState(null, "", `#/c/${id}`);
  entitle();
  linkViews();
}

/** Names the page after the conversation that is open in it. */
function entitle() {
  by("heading").textContent = title(chat.current());
  if (!by("chat").hidden) document.title = `${title(chat.current())} · Edgeship`;
}

/** Shows what an address says, at once: a changed hash would be heard of later, after what is typed meanwhile. */
function go(hash) {
  if (location.hash !== hash) history.pushState(null, "", hash);
  route();
}

function fresh() {
  go("#/");
  chat.focusQuestion();
}

function otherView() {
  go((by("about").hidden ? modelLink : chatLink).getAttribute("href"));
}

function toChat(then) {
  if (by("chat").hidden) go(chatLink.getAttribute("href"));
  setTimeout(then);
}

function escape() {
  if (chat.stopAnswer()) return;
  if (narrow() && by("shelf").classList.contains("is-open")) return void (toggleShelf(false), menuButton.focus());
  if (!panel.hidden) toggleSettings(false);
}

async function loadModels() {
  let found;
  try {
    found = await api.models();
  } catch (error) {
    return notice(error.message, ["Try again", loadModels]);
  }
  names = found.map(({ id }) => id);
  const last = chat.current().model || shelf.preference("model");
  picker.replaceChildren(...found.map(({ id, gate }) => el("option", { value: id }, model.marked(id, gate))));
  if (!names.length) notice("The server has no model. Ship one with `edgeship ship`, and start the server again.");
  picker.value = names.includes(last) ? last : (names[0] ?? "");
  chat.current().model = picker.value;
  linkViews();
  about(picker.value);
}

function chosen(name) {
  shelf.preference("model", name);
  chat.current().model = name;
  linkViews();
  about(name);
  if (!by("about").hidden) go(modelLink.getAttribute("href"));
}

/** Tells beside an empty conversation what the model is. */
async function about(name) {
  facts = null;
  const said = el("p", { class: "figures" });
  const more = name && el("a", { href: `#/models/${encodeURIComponent(name)}` }, "How it was made and measured");
  const mark = el("img", { src: "page/icon.svg", alt: "", width: 44, height: 44 });
  by("welcome").replaceChildren(mark, el("h2", {}, name || "No model"), said, more || "");
  if (!name) return;
  const found = await api.facts(name).catch(() => null);
  if (picker.value !== name || !found) return;
  facts = found;
  said.replaceChildren(...model.inShort(found).map((text) => el("span", {}, text)));
  renderSettings();
}

function renderSettings() {
  const one = chat.current();
  markSettings(one.settings);
  if (panel.hidden) return;
  const changed = () => {
    markSettings(one.settings);
    shelf.keepSettings(one.settings);
    if (one.nodes.length) shelf.keep(one);
  };
  settings.show(one.settings, facts, { changed, close: () => toggleSettings(false) });
}

/** Shows on the button that answers are not made by the model's own defaults: settings last from the last time. */
function markSettings(settings) {
  const some = Object.values(settings).some((value) => value);
  settingsButton.classList.toggle("is-set", some);
  settingsButton.title = some ? "Settings (some are set)" : "Settings";
  settingsButton.setAttribute("aria-label", settingsButton.title);
}

function toggleSettings(open = panel.hidden) {
  panel.hidden = !open;
  settingsButton.setAttribute("aria-expanded", open);
  renderSettings();
  (open ? panel.querySelector("textarea") : settingsButton).focus();
}

function toggleShelf(open = !by("shelf").classList.contains("is-open")) {
  by("shelf").classList.toggle("is-open", open);
  menuButton.setAttribute("aria-expanded", open);
  if (open && narrow()) by("search").focus();
}

function narrow() {
  return matchMedia("(max-width: 52rem)").matches;
}

const themeButton = iconButton("theme", "Theme", () => {
  const next = THEMES[(THEMES.indexOf(shelf.preference("theme") ?? "system") + 1) % THEMES.length];
  shelf.preference("theme", next);
  theme(next);
});

function theme(name) {
  document.documentElement.dataset.theme = name;
  themeButton.title = `Theme: ${name}`;
  themeButton.setAttribute("aria-label", `Theme: ${name}`);
}

async function imported() {
  const [given] = file.files;
  file.value = "";
  if (!given) return;
  try {
    const count = await transfer.read(given);
    notice(count === 1 ? "One conversation was imported." : `${count} conversations were imported.`);
  } catch (error) {
    notice(`The file was not imported. ${error.message}`);
  }
  renderList();
}

start();
