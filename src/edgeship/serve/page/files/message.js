// One message of a conversation on the screen.

import { isRunning, took } from "./answering.js";
import { el, icon, iconButton } from "./dom.js";
import { codeBlock, copied, show } from "./markdown.js";
import { say } from "./notices.js";
import { versions } from "./tree.js";

const ENDS = {
  length: "The answer is as long as it may be, and may not be complete.",
  stopped: "Stopped.",
};

/** A message's element, and `update` to be called when the message has changed. acts: what its buttons do. */
export function message(conversation, node, acts) {
  const draw = { user: question, assistant: answer, tool: results }[node.role];
  return draw(conversation, node, acts);
}

function question(conversation, node, acts) {
  const text = el("div", { class: "bubble" }, node.content);
  const foot = el("div", { class: "foot" });
  const element = el("article", { class: "message user", "aria-label": "You" }, text, foot);
  const edit = () => {
    const form = editor(node, acts, () => (form.replaceWith(text), foot.querySelector("[data-focus^=edit]")?.focus()));
    text.replaceWith(form);
    form.querySelector("textarea").focus();
  };
  const update = () => {
    foot.replaceChildren(...switcher(conversation, node, acts), copyButton(node), changing(conversation, iconButton("edit", "Edit", edit, { "data-focus": `edit-${node.id}` })));
  };
  update();
  return { element, update, edit };
}

function editor(node, acts, close) {
  const field = el("textarea", { "aria-label": "Edited message", rows: Math.min(node.content.split("\n").length + 1, 12) });
  field.value = node.content;
  const send = (event) => {
    event?.preventDefault();
    if (field.value.trim()) close(), acts.edit(node, field.value);
  };
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") event.stopPropagation(), close();
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send(event);
  });
  return el(
    "form",
    { class: "editor", onsubmit: send },
    field,
    el("div", { class: "dialog-buttons" }, el("button", { type: "button", class: "button plain", onclick: close }, "Cancel"), el("button", { type: "submit", class: "button first" }, "Send")),
  );
}

function answer(conversation, node, acts) {
  const thoughts = el("div", { class: "thoughts" });
  const summary = el("summary", {});
  const thinking = el("details", { class: "thinking" }, summary, thoughts);
  const text = el("div", { class: "text" });
  const calls = el("div", { class: "calls" });
  const state = el("div", { class: "state" });
  const foot = el("div", { class: "foot" });
  const element = el("article", { class: "message assistant", "aria-label": `Answer of ${node.model}` }, thinking, text, calls, state, foot);
  const hear = listener(text, node);
  const update = () => {
    const running = node.finish === null && isRunning(conversation);
    element.classList.toggle("running", running);
    thinking.hidden = !node.thinking;
    if (node.thinking) {
      summary.textContent = running && !node.content ? "Thinking …" : "Thoughts";
      show(thoughts, node.thinking);
    }
    if (node.json) showJson(text, node.content, running);
    else show(text, node.content);
    calls.replaceChildren(...node.calls.map(drawnCall));
    state.replaceChildren(...stateOf(conversation, node, acts, running));
    foot.replaceChildren(...(running ? [] : footOf(conversation, node, acts)));
    hear(running);
  };
  update();
  return { element, update };
}

/** Says the blocks of a text as they are complete. What was there before is not said. */
function listener(text, node) {
  let heard = node.finish === null ? 0 : Infinity;
  return (running) => {
    const complete = text.children.length - (running ? 1 : 0);
    for (; heard < complete; heard += 1) say(text.children[heard].textContent);
    if (!running) heard = Infinity;
  };
}

function showJson(element, content, running) {
  let shown = content;
  try {
    if (!running) shown = JSON.stringify(JSON.parse(content), null, 2);
  } catch {
    // Not complete: it is shown as far as it goes.
  }
  if (element.source !== shown && shown) element.replaceChildren(codeBlock(shown, "json"));
  element.source = shown;
}

function drawnCall(call) {
  return el("div", { class: "call" }, el("p", { class: "call-head" }, icon("tool"), "Calls ", el("code", {}, call.name)), codeBlock(pretty(call.arguments), "json"));
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function stateOf(conversation, node, acts, running) {
  if (running) return node.content || node.thinking || node.calls.length ? [] : [el("p", { class: "waiting" }, "Waiting for the model")];
  if (node.finish === "tool_calls" && conversation.leaf === node.id) return [resultForm(node, acts)];
  if (node.finish === "failed" || node.finish === null) {
    const again = el("button", { type: "button", class: "button", onclick: () => acts.again(node), "data-focus": `again-${node.id}` }, "Try again");
    return [el("div", { class: "failure", role: "alert" }, el("p", {}, node.error || "The page was closed before the answer was complete."), changing(conversation, again))];
  }
  return ENDS[node.finish] ? [el("p", { class: "quiet" }, ENDS[node.finish])] : [];
}

function footOf(conversation, node, acts) {
  const again = iconButton("again", "Answer again", () => acts.again(node), { "data-focus": `again-${node.id}` });
  return [...switcher(conversation, node, acts), copyButton(node), changing(conversation, again), el("span", { class: "took" }, took(node).join(" · "))];
}

function changing(conversation, button) {
  button.disabled = isRunning(conversation);
  return button;
}

function copyButton(node) {
  const button = iconButton("copy", "Copy", () => copied(button, node.content), { "data-focus": `copy-${node.id}` });
  return button;
}

function switcher(conversation, node, acts) {
  const all = versions(conversation, node);
  if (all.length < 2) return [];
  const at = all.indexOf(node);
  const step = (name, label, to) =>
    iconButton(name, label, () => acts.choose(all[to]), { disabled: !all[to], "data-focus": `${name}-${node.role}-${node.parent}` });
  return [step("previous", "Version before", at - 1), el("span", { class: "count" }, `${at + 1} / ${all.length}`), step("next", "Version after", at + 1)];
}

/** Where the user says what a tool answers. */
function resultForm(node, acts) {
  const fields = node.calls.map((call) => el("textarea", { rows: 2, "aria-label": `Result of ${call.name}`, placeholder: `What ${call.name} answers` }));
  const send = (event) => {
    event.preventDefault();
    acts.results(node, node.calls.map((call, index) => ({ id: call.id, name: call.name, content: fields[index].value })));
  };
  return el("form", { class: "editor", onsubmit: send }, fields, el("div", { class: "dialog-buttons" }, el("button", { type: "submit", class: "button first" }, "Send results")));
}

function results(_, node) {
  const shown = node.results.map((result) => el("div", { class: "call" }, el("p", { class: "call-head" }, icon("tool"), "Result of ", el("code", {}, result.name)), codeBlock(pretty(result.content), "")));
  return { element: el("article", { class: "message tool", "aria-label": "Results" }, shown), update: () => {} };
}
