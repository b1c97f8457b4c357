// The conversation on the screen: what is asked, answered, asked again.

import { answer, isRunning, stop, unfinished } from "./answering.js";
import { iconButton, keepingFocus, place } from "./dom.js";
import { message } from "./message.js";
import { say } from "./notices.js";
import * as shelf from "./shelf.js";
import { add, choose, shown } from "./tree.js";

const KEPT_EVERY_MS = 1000;
const AT_END_PX = 48;

const log = document.getElementById("log");
const scroll = document.getElementById("scroll");
const question = document.getElementById("question");

let conversation = null;
let drawn = new Map(); // messages on the screen by their ids
let atEnd = true;
let told = () => {};

/** Makes the chat ready. changed: is called when a conversation was kept or an answer began or ended. */
export function begin(changed) {
  told = changed;
  const form = document.getElementById("composer");
  form.addEventListener("submit", (event) => (event.preventDefault(), send()));
  question.addEventListener("keydown", pressed);
  question.addEventListener("input", fit);
  scroll.addEventListener("scroll", () => {
    atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < AT_END_PX;
    toEnd.hidden = atEnd;
  });
  window.addEventListener("pagehide", () => unfinished().forEach(shelf.keep));
  document.getElementById("composer-buttons").append(sendButton, stopButton);
  form.prepend(toEnd);
}

const sendButton = iconButton("send", "Send", () => send(), { class: "icon-button first", "data-focus": "send" });
const stopButton = iconButton("stop", "Stop", () => stopAnswer(), { class: "icon-button first", "data-focus": "stop" });
const toEnd = iconButton("down", "To the end", () => scrollToEnd(), { class: "icon-button to-end", hidden: true });

export function current() {
  return conversation;
}

/** Shows a conversation. */
export function open(one) {
  conversation = one;
  drawn = new Map();
  log.replaceChildren();
  atEnd = true;
  render();
}

export function focusQuestion() {
  question.focus();
}

function render() {
  keepingFocus(() => {
    const nodes = shown(conversation);
    for (const node of nodes) if (!drawn.has(node.id)) drawn.set(node.id, message(conversation, node, acts));
    place(log, nodes.map((node) => drawn.get(node.id).element));
    for (const node of nodes) drawn.get(node.id).update();
    const running = isRunning(conversation);
    log.setAttribute("aria-busy", running);
    sendButton.hidden = running;
    stopButton.hidden = !running;
    document.getElementById("welcome").hidden = nodes.length > 0;
  }, () => question);
  if (atEnd) scrollToEnd();
}

function scrollToEnd() {
  scroll.scrollTop = scroll.scrollHeight;
}

const acts = {
  edit: (node, text) => reply(add(conversation, node.parent, { role: "user", content: text })),
  again: (node) => reply(shown(conversation, node.parent).at(-1)),
  choose: (node) => (choose(conversation, node), kept(conversation), render()),
  results: (node, results) => reply(add(conversation, node.id, { role: "tool", content: "", results })),
};

function send() {
  const text = question.value;
  if (!text.trim() || isRunning(conversation)) return;
  question.value = "";
  fit();
  reply(add(conversation, conversation.leaf, { role: "user", content: text }));
  if (!byTouch()) question.focus();
}

/** Has the model answer what was said, in the conversation that is open now, whichever is open when the answer ends. */
async function reply(said) {
  const here = conversation;
  const node = add(here, said.id, blank(here));
  let due = 0;
  let asked = false;
  const draw = () => {
    asked = false;
    if (here !== conversation || !drawn.has(node.id)) return;
    drawn.get(node.id).update();
    if (atEnd) scrollToEnd();
  };
  const made = answer(here, node, () => {
    if (!asked) asked = Boolean(requestAnimationFrame(draw));
    if (Date.now() > due) kept(here), (due = Date.now() + KEPT_EVERY_MS);
  });
  say("The model is answering.");
  atEnd = true;
  kept(here);
  render();
  await made;
  kept(here);
  if (here === conversation) render();
  if (node.error) say(node.error);
}

/** An answer of which nothing has come. json: it is held to a schema, and shown as JSON. */
function blank({ model, settings }) {
  const json = Boolean(settings.schema?.trim());
  return { role: "assistant", content: "", thinking: "", calls: [], model, json, finish: null };
}

function kept(one) {
  shelf.keep(one);
  told();
}

/** Stops the answer that is being made. Whether there was one. */
export function stopAnswer() {
  if (!conversation || !isRunning(conversation)) return false;
  stop(conversation);
  question.focus();
  return true;
}

/** Answers the last question again. */
export function answerAgain() {
  const last = shown(conversation).at(-1);
  if (last?.role === "assistant" && !isRunning(conversation)) acts.again(last);
}

/** Opens the last question for editing. */
export function editLast() {
  const last = shown(conversation).findLast((node) => node.role === "user");
  if (last && !isRunning(conversation)) drawn.get(last.id).edit();
}

function pressed(event) {
  if (event.isComposing) return;
  if (event.key === "Enter" && !event.shiftKey && !byTouch()) event.preventDefault(), send();
  if (event.key === "ArrowUp" && !question.value) event.preventDefault(), editLast();
}

/** Whether the keys are on the screen: Enter is then the only way to a new line, and the keys hide the answer. */
function byTouch() {
  return matchMedia("(pointer: coarse)").matches;
}

/** As high as its text, up to what the style allows. */
function fit() {
  question.style.height = "auto";
  question.style.height = `${question.scrollHeight}px`;
}
