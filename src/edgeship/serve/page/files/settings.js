// How a conversation is answered: instructions, sampling, what the answer is held to.

import { NUMBERS, json } from "./asking.js";
import { el, iconButton } from "./dom.js";

const panel = document.getElementById("settings");

/** Fills the panel with a conversation's settings. changed: is called with each change. defaults: the model's own. */
export function show(settings, defaults, { changed, close }) {
  const set = (name) => (event) => {
    settings[name] = event.target.value;
    changed();
  };
  panel.replaceChildren(
    el("div", { class: "panel-head" }, el("h2", {}, "Settings"), iconButton("close", "Close settings", close)),
    area("system", "System prompt", "What the model is to be and do.", settings, set, 4),
    el("fieldset", {}, el("legend", {}, "Sampling"), el("p", { class: "hint" }, "An empty field takes the model's own default."), el("div", { class: "numbers" }, NUMBERS.map((known) => number(known, settings, defaults, set)))),
    thinking(settings, set),
    jsonArea("schema", "JSON schema", "The answer is held to it.", settings, set),
    jsonArea("tools", "Tools", "A list of functions that the model may call.", settings, set),
    el("button", { type: "button", class: "button", onclick: () => cleared(settings, defaults, { changed, close }) }, "Clear all"),
  );
}

function cleared(settings, defaults, acts) {
  for (const name of Object.keys(settings)) delete settings[name];
  acts.changed();
  show(settings, defaults, acts);
  panel.querySelector("textarea").focus();
}

function number({ name, label, help, ...limits }, settings, defaults, set) {
  const id = `set-${name}`;
  const field = el("input", { id, type: "number", inputmode: "decimal", placeholder: defaults?.[name] ?? "default", "aria-describedby": `${id}-help`, oninput: set(name), ...limits });
  field.value = settings[name] ?? "";
  return el("div", { class: "number" }, el("label", { for: id }, label), field, el("p", { id: `${id}-help`, class: "hint" }, help));
}

function thinking(settings, set) {
  const choices = [["", "As the model does"], ["on", "On"], ["off", "Off"]];
  const field = el("select", { id: "set-thinking", onchange: set("thinking") }, choices.map(([value, label]) => el("option", { value }, label)));
  field.value = settings.thinking ?? "";
  return el("div", { class: "setting" }, el("label", { for: "set-thinking" }, "Thinking"), field, el("p", { class: "hint" }, "For models whose template has the switch."));
}

function area(name, label, help, settings, set, rows) {
  const id = `set-${name}`;
  const field = el("textarea", { id, rows, "aria-describedby": `${id}-help`, oninput: set(name), spellcheck: name === "system" ? null : "false" });
  field.value = settings[name] ?? "";
  return el("div", { class: "setting" }, el("label", { for: id }, label), field, el("p", { id: `${id}-help`, class: "hint" }, help));
}

/** A field for JSON that says what is wrong with it while it is typed. */
function jsonArea(name, label, help, settings, set) {
  const made = area(name, label, help, settings, set, 3);
  const field = made.querySelector("textarea");
  const told = made.querySelector(".hint");
  field.classList.add("code-field");
  const check = () => {
    const fault = field.value.trim() ? faultOf(field.value) : null;
    field.setAttribute("aria-invalid", Boolean(fault));
    told.textContent = fault ?? help;
  };
  field.addEventListener("input", check);
  check();
  return made;
}

function faultOf(text) {
  try {
    json(text, "This");
    return null;
  } catch (error) {
    return error.message;
  }
}
