// Markdown as DOM nodes. Never HTML: what a model writes between angle brackets is shown as it is.

import { el, iconButton } from "./dom.js";
import { inline } from "./inline.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`\s]*)/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*)$/;
const RULE = /^ {0,3}([-*_])( *\1){2,} *$/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])( +|$)(.*)$/;
const QUOTE = /^ {0,3}> ?/;
const DEEPEST = 8;

/** Shows a text in an element. Blocks that did not change keep their nodes, so that a selection in them stays. */
export function show(element, text) {
  const found = blocks(text.split("\n"), 0);
  found.forEach((block, index) => {
    const there = element.children[index];
    if (there?.source === block.source) return;
    const made = drawn(block);
    made.source = block.source;
    if (there) there.replaceWith(made);
    else element.append(made);
  });
  while (element.children.length > found.length) element.lastElementChild.remove();
}

/** The blocks of these lines, each with the lines that it was made of as `source`. */
function blocks(lines, depth) {
  const found = [];
  for (let at = 0; at < lines.length; ) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const block = blockAt(lines, at, depth);
    block.source = `${block.kind}\n${lines.slice(at, block.end).join("\n")}`;
    found.push(block);
    at = block.end;
  }
  return found;
}

function blockAt(lines, at, depth) {
  const special = fence(lines, at) ?? single(lines, at) ?? nested(lines, at, depth) ?? table(lines, at);
  return special ?? paragraph(lines, at);
}

function fence(lines, at) {
  const open = FENCE.exec(lines[at]);
  if (!open) return null;
  const close = (line) => line.trim().startsWith(open[1]) && !line.trim().replaceAll(open[1][0], "");
  let end = at + 1;
  while (end < lines.length && !close(lines[end])) end += 1;
  const text = lines.slice(at + 1, end).join("\n");
  return { kind: "code", language: open[2], text, end: Math.min(end + 1, lines.length) };
}

function single(lines, at) {
  if (RULE.test(lines[at])) return { kind: "rule", end: at + 1 };
  const heading = HEADING.exec(lines[at]);
  if (!heading) return null;
  return { kind: "heading", level: heading[1].length, text: heading[2].replace(/\s#+\s*$/, ""), end: at + 1 };
}

function nested(lines, at, depth) {
  if (depth >= DEEPEST) return null;
  if (QUOTE.test(lines[at])) {
    const end = runs(lines, at, (line) => QUOTE.test(line));
    const inside = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
    return { kind: "quote", inside: blocks(inside, depth + 1), end };
  }
  return ITEM.test(lines[at]) ? list(lines, at, depth) : null;
}

function list(lines, at, depth) {
  const first = ITEM.exec(lines[at]);
  const ordered = /\d/.test(first[2]);
  const items = [];
  let end = at;
  let room = 0;
  for (; end < lines.length; end += 1) {
    const item = ITEM.exec(lines[end]);
    if (item && item[1].length < first[1].length + 2 && /\d/.test(item[2]) === ordered) {
      room = item[1].length + item[2].length + Math.min(Math.max(item[3].length, 1), 4);
      items.push([item[4]]);
    } else if (!lines[end].trim()) {
      if (!belongs(lines[end + 1], room, ordered)) break;
      items.at(-1).push("");
    } else if (indent(lines[end]) >= Math.min(room, first[1].length + 2)) {
      items.at(-1).push(lines[end].slice(Math.min(room, indent(lines[end]))));
    } else if (item || lines[end - 1].trim() === "" || starts(lines[end])) break;
    else items.at(-1).push(lines[end].trim());
  }
  const inside = items.map((item) => blocks(item, depth + 1));
  return { kind: "list", ordered, start: parseInt(first[2], 10), items: inside, end };
}

/** Whether a list goes on with the line after an empty one. */
function belongs(line, room, ordered) {
  if (line === undefined || !line.trim()) return false;
  const item = ITEM.exec(line);
  return indent(line) >= Math.min(room, 2) || (item !== null && /\d/.test(item[2]) === ordered);
}

function table(lines, at) {
  const rule = cells(lines[at + 1] ?? "");
  const head = cells(lines[at]);
  const fits = rule.length === head.length && rule.every((cell) => /^:?-+:?$/.test(cell));
  if (!fits || !lines[at].includes("|")) return null;
  const end = runs(lines, at + 2, (line) => line.includes("|"));
  const sides = rule.map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "middle-cell" : "right") : null));
  return { kind: "table", head, sides, rows: lines.slice(at + 2, end).map(cells), end };
}

function cells(line) {
  return line.trim().replace(/^\|/, "").replace(/\|$/, "").split(/(?<!\\)\|/).map((cell) => cell.trim());
}

function paragraph(lines, at) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !starts(lines[end]) && !table(lines, end)) end += 1;
  return { kind: "paragraph", text: lines.slice(at, end).map((line) => line.trim()).join("\n"), end };
}

/** Whether a line ends the paragraph before it. */
function starts(line) {
  return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || ITEM.test(line);
}

function runs(lines, at, belongsTo) {
  let end = at;
  while (end < lines.length && belongsTo(lines[end])) end += 1;
  return end;
}

function indent(line) {
  return line.length - line.trimStart().length;
}

const DRAW = {
  paragraph: (block) => el("p", {}, inline(block.text)),
  // The page has its own headings above those of an answer.
  heading: (block) => el(`h${Math.min(block.level + 2, 6)}`, {}, inline(block.text)),
  rule: () => el("hr"),
  quote: (block) => el("blockquote", {}, block.inside.map(drawn)),
  code: (block) => codeBlock(block.text, block.language),
  list: (block) => el(block.ordered ? "ol" : "ul", { start: block.ordered && block.start }, block.items.map(listItem)),
  table: drawnTable,
};

function drawn(block) {
  return DRAW[block.kind](block);
}

function listItem(inside) {
  const [first, ...rest] = inside;
  if (first?.kind === "paragraph") return el("li", {}, inline(first.text), rest.map(drawn));
  return el("li", {}, inside.map(drawn));
}

function drawnTable(block) {
  const cell = (tag, text, side) => el(tag, { class: side, scope: tag === "th" && "col" }, inline(text ?? ""));
  const row = (tag, texts) => el("tr", {}, block.sides.map((side, index) => cell(tag, texts[index], side)));
  const body = block.rows.map((texts) => row("td", texts));
  const table = el("table", {}, el("thead", {}, row("th", block.head)), el("tbody", {}, body));
  return el("div", { class: "wide", role: "region", "aria-label": "Table", tabindex: "0" }, table);
}

/** A block of code with its language and a button that copies it. */
export function codeBlock(text, language = "") {
  const copy = iconButton("copy", "Copy code", () => copied(copy, text));
  return el(
    "div",
    { class: "code" },
    el("div", { class: "code-head" }, el("span", {}, language || "text"), copy),
    el("pre", { tabindex: "0", "aria-label": language ? `Code, ${language}` : "Code" }, el("code", {}, text)),
  );
}

/** Puts a text on the clipboard, and says so on the button that was pressed. */
export async function copied(button, text) {
  const label = button.getAttribute("aria-label");
  const tell = (said) => (button.setAttribute("aria-label", said), (button.title = said));
  try {
    // Browsers have no clipboard for a page that came by plain HTTP from another machine.
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else copySelected(text);
    tell("Copied");
    button.classList.add("is-done");
  } catch {
    tell("This browser does not let the page copy");
  }
  setTimeout(() => (tell(label), button.classList.remove("is-done")), 2000);
}

function copySelected(text) {
  const before = document.activeElement;
  const field = el("textarea", { class: "unseen", "aria-hidden": "true" });
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  before?.focus();
  if (!done) throw new Error("the browser refused");
}
