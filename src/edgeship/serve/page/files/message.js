// One message of a conversation on the screen.

import { isRunning, took } from "./answering.js";
import { el, icon, iconButton, textButton } from "./dom.js";
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
    const fields = editor(node, acts, () => {
      fields.replaceWith(text);
      foot.querySelector("[data-focus^=edit]")?.focus();
    });
    text.replaceWith(fields);
    fields.querySelector("textarea").focus();
  };
  const update = () => {
    const change = iconButton("edit", "Edit", edit, { "data-focus": `edit-${node.id}` });
    foot.replaceChildren(...switcher(conversation, node, acts), copyButton(node), changing(conversation, change));
  };
  update();
  return { element, update, edit };
}

function editor(node, acts, close) {
  const rows = Math.min(node.content.split("\n").length + 1, 12);
  const field = el("textarea", { "aria-label": "Edited message", rows });
  field.value = node.content;
  const send = (event) => {
    event?.preventDefault();
    if (field.value.trim()) close(), acts.edit(node, field.value);
  };
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") event.stopPropagation(), close();
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send(event);
  });
  const cancel = textButton("Cancel", { class: "button plain", onclick: close });
  return form([field], send, [cancel, submit("Send")]);
}

function form(fields, onsubmit, buttons) {
  return el("form", { class: "editor", onsubmit }, fields, el("div", { class: "dialog-buttons" }, buttons));
}

function submit(label) {
  return textButton(label, { type: "submit", class: "button first" });
}

function answer(conversation, node, acts) {
  const thoughts = el("div", { class: "thoughts" });
  const summary = el("summary", {});
  const thinking = el("details", { class: "thinking" }, summary, thoughts);
  const text = el("div", { class: "text" });
  const calls = el("div", { class: "calls" });
  const state = el("div", { class: "state" });
  const foot = el("div", { class: "foot" });
  const parts = [thinking, text, calls, state, foot];
  const element = el("article", { class: "message assistant", "aria-label": `Answer of ${node.model}` }, parts);
  const hear = listener(text, node);
  const update = () => {
    const running = node.finish === null && isRunning(conversation);
    element.classList.toggle("running", running);
    thinking.hidden = !node.thinking;
    summary.textContent = running && !node.content ? "Thinking …" : "Thoughts";
    show(thoughts, node.thinking);
    if (node.json) showJson(text, node.content, running);
    else show(text, node.content);
    calls.replaceChildren(...node.calls.map((call) => ofTool("Calls", call.name, call.arguments)));
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

/** A call of a tool, or what it came to. */
function ofTool(what, name, content) {
  const head = el("p", { class: "call-head" }, icon("tool"), el("span", {}, `${what} `, el("code", {}, name)));
  return el("div", { class: "call" }, head, codeBlock(pretty(content), "json"));
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function stateOf(conversation, node, acts, running) {
  const nothing = !node.content && !node.thinking && !node.calls.length;
  if (running) return nothing ? [el("p", { class: "waiting" }, "Waiting for the model")] : [];
  if (node.finish === "tool_calls" && conversation.leaf === node.id) return [resultForm(node, acts)];
  if (node.finish === "failed" || node.finish === null) {
    const why = el("p", {}, node.error || "The page was closed before the answer was complete.");
    const again = textButton("Try again", { onclick: () => acts.again(node), "data-focus": `retry-${node.id}` });
    return [el("div", { class: "failure", role: "alert" }, why, changing(conversation, again))];
  }
  return ENDS[node.finish] ? [el("p", { class: "quiet" }, ENDS[node.finish])] : [];
}

function footOf(conversation, node, acts) {
  const again = iconButton("again", "Answer again", () => acts.again(node), { "data-focus": `again-${node.id}` });
  const figures = el("span", { class: "took" }, took(node).join(" · "));
  return [...switcher(conversation, node, acts), copyButton(node), changing(conversation, again), figures];
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
  const step = (name, label, to) => {
    const place = `${name}-${node.role}-${node.parent}`;
    return iconButton(name, label, () => acts.choose(all[to]), { disabled: !all[to], "data-focus": place });
  };
  const count = el("span", { class: "count" }, `${at + 1} / ${all.length}`);
  return [step("previous", "Version before", at - 1), count, step("next", "Version after", at + 1)];
}

/** Where the user says what a tool answers. */
function resultForm(node, acts) {
  const fields = node.calls.map(({ name }) =>
    el("textarea", { rows: 2, "aria-label": `Result of ${name}`, placeholder: `What ${name} answers` }),
  );
  const send = (event) => {
    event.preventDefault();
    const given = node.calls.map(({ id, name }, index) => ({ id, name, content: fields[index].value }));
    acts.results(node, given);
  };
  return form(fields, send, [submit("Send results")]);
}

function results(_, node) {
  const shown = node.results.map((result) => ofTool("Result of", result.name, result.content));
  return { element: el("article", { class: "message tool", "aria-label": "Results" }, shown), update: () => {} };
}
