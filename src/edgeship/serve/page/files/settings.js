// How a conversation is answered: instructions, sampling, what the answer is held to.

import { NUMBERS, json } from "./asking.js";
import { el, iconButton, textButton } from "./dom.js";

const panel = document.getElementById("settings");

/** Fills the panel with a conversation's settings. facts: of the model. changed: is called with each change. */
export function show(settings, facts, { changed, close }) {
  const set = (name) => (event) => {
    settings[name] = event.target.value;
    changed();
  };
  panel.replaceChildren(
    el("div", { class: "panel-head" }, el("h2", {}, "Settings"), iconButton("close", "Close settings", close)),
    area("system", "System prompt", "What the model is to be and do.", settings, set, 3),
    jsonArea("schema", "JSON schema", "The answer is held to it.", '{"type": "object", ...}', settings, set),
    jsonArea("tools", "Tools", "What the model may call.", '[{"name": "...", "parameters": {}}]', settings, set),
    thinking(settings, facts?.thinking, set),
    sampling(settings, facts?.defaults, set),
    textButton("Clear all", { onclick: () => cleared(settings, facts, { changed, close }) }),
  );
}

function cleared(settings, facts, acts) {
  for (const name of Object.keys(settings)) delete settings[name];
  acts.changed();
  show(settings, facts, acts);
  panel.querySelector("textarea").focus();
}

function sampling(settings, defaults, set) {
  const numbers = NUMBERS.map((known) => number(known, settings, defaults, set));
  const hint = el("p", { class: "hint" }, "An empty field takes the model's own default.");
  return el("fieldset", {}, el("legend", {}, "Sampling"), hint, el("div", { class: "numbers" }, numbers));
}

function number({ name, label, help, ...limits }, settings, defaults, set) {
  const placeholder = defaults?.[name] ?? "default";
  const field = el("input", { type: "number", inputmode: "decimal", placeholder, oninput: set(name), ...limits });
  field.value = settings[name] ?? "";
  return labelled("number", name, label, field, help);
}

/** A field with its name and what is to be known of it. */
function labelled(kind, name, label, field, help) {
  const id = `set-${name}`;
  field.id = id;
  field.setAttribute("aria-describedby", `${id}-help`);
  const hint = el("p", { id: `${id}-help`, class: "hint" }, help);
  return el("div", { class: kind }, el("label", { for: id }, label), field, hint);
}

function thinking(settings, known, set) {
  const choices = [["", "As the model does by itself"], ["none", "Off"]];
  if (known?.switch) choices.push([`on:${known.switch}`, "On"]);
  if (known?.levels) choices.push(["low", "A little"], ["medium", "Some"], ["high", "Much"]);
  // What was chosen for another model stays to be seen, and the server says what is wrong with it.
  const chosen = settings.thinking ?? "";
  if (!choices.some(([value]) => value === chosen)) choices.push([chosen, chosen]);
  const options = choices.map(([value, label]) => el("option", { value }, label));
  const field = el("select", { onchange: set("thinking") }, options);
  field.value = chosen;
  return labelled("setting", "thinking", "Thinking", field, "Before it answers, where the model does so.");
}

function area(name, label, help, settings, set, rows) {
  const field = el("textarea", { rows, oninput: set(name) });
  field.value = settings[name] ?? "";
  return labelled("setting", name, label, field, help);
}

/** A field for JSON that says what is wrong with it while it is typed. */
function jsonArea(name, label, help, example, settings, set) {
  const made = area(name, label, help, settings, set, 3);
  const field = made.querySelector("textarea");
  const told = made.querySelector(".hint");
  field.classList.add("code-field");
  field.spellcheck = false;
  field.placeholder = example;
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
