// The parts of a line of Markdown: code, emphasis, links. Makes DOM nodes and reads no HTML.

import { el } from "./dom.js";

const MARK = /\\[\\`*_{}[\]()#+.!|~>-]|`+|\*\*|\*|__|_|~~|!?\[|https?:\/\/|\n/g;
const LINK = /!?\[([^[\]\n]*)\]\(\s*<?([^\s()<>]*(?:\([^\s()<>]*\)[^\s()<>]*)*)>?(?:\s+"[^"\n]*")?\s*\)/y;
const ADDRESS = /https?:\/\/[^\s<>"'`\])]+/y;
const TAGS = { "**": "strong", __: "strong", "*": "em", _: "em", "~~": "del" };
const SCHEMES = new Set(["http:", "https:", "mailto:"]);
const WORD = /[\p{L}\p{N}]/u;
const DEEPEST = 6;

/** The nodes of a text. Deeper emphasis than anybody writes stays as it was typed. */
export function inline(text, depth = 0) {
  const nodes = [];
  const without = new Set(); // marks that nothing in the rest of this text closes
  let plain = "";
  let at = 0;
  const put = (node, end) => {
    if (plain) nodes.push(plain);
    plain = "";
    nodes.push(node);
    at = end;
  };
  while (at < text.length) {
    MARK.lastIndex = at;
    const found = MARK.exec(text);
    if (!found) break;
    plain += text.slice(at, found.index);
    at = found.index;
    const made = special(text, found[0], at, depth, without);
    if (made) put(made.node, made.end);
    else {
      plain += found[0];
      at += found[0].length;
    }
  }
  plain += text.slice(at);
  if (plain) nodes.push(plain);
  return nodes;
}

/** What begins with a mark, and where it ends; null where the mark is only text. */
function special(text, mark, at, depth, without) {
  if (mark === "\n") return { node: el("br"), end: at + 1 };
  if (mark[0] === "\\") return { node: mark[1], end: at + 2 };
  if (mark[0] === "`") return code(text, mark, at, without);
  if (mark.endsWith("[")) return link(text, at, depth);
  if (mark.startsWith("http")) return address(text, at);
  return depth < DEEPEST ? emphasis(text, mark, at, depth, without) : null;
}

function code(text, mark, at, without) {
  if (without.has(mark)) return null;
  const from = at + mark.length;
  let end = text.indexOf(mark, from);
  while (end >= 0 && (text[end + mark.length] === "`" || text[end - 1] === "`")) {
    while (text[end] === "`") end += 1;
    end = text.indexOf(mark, end);
  }
  if (end < 0) {
    without.add(mark);
    return null;
  }
  const inside = text.slice(from, end);
  const shown = /^ .*[^ ].* $/s.test(inside) ? inside.slice(1, -1) : inside;
  return { node: el("code", {}, shown), end: end + mark.length };
}

function emphasis(text, mark, at, depth, without) {
  const from = at + mark.length;
  if (without.has(mark) || !text[from] || /\s/.test(text[from])) return null;
  const inWord = mark[0] === "_";
  if (inWord && WORD.test(text[at - 1] ?? "")) return null;
  for (let end = text.indexOf(mark, from + 1); end >= 0; end = text.indexOf(mark, end + 1)) {
    const after = text[end + mark.length] ?? "";
    if (mark.length === 1 && (after === mark || text[end - 1] === mark)) continue;
    if (/\s/.test(text[end - 1]) || (inWord && WORD.test(after))) continue;
    return { node: el(TAGS[mark], {}, inline(text.slice(from, end), depth + 1)), end: end + mark.length };
  }
  without.add(mark);
  return null;
}

function link(text, at, depth) {
  LINK.lastIndex = at;
  const found = LINK.exec(text);
  const target = found && safe(found[2]);
  if (!target || depth >= DEEPEST) return null;
  const label = found[1] ? inline(found[1], DEEPEST) : [found[2]];
  return { node: anchor(target, label), end: LINK.lastIndex };
}

function address(text, at) {
  ADDRESS.lastIndex = at;
  const found = ADDRESS.exec(text)?.[0].replace(/[.,;:!?]+$/, "");
  const target = found && safe(found);
  return target ? { node: anchor(target, [found]), end: at + found.length } : null;
}

function anchor(href, children) {
  return el("a", { href, rel: "noopener noreferrer nofollow", target: "_blank" }, children);
}

/** An address that may be followed; null for every other scheme, and for what is no address by itself. */
function safe(target) {
  const url = URL.canParse(target) ? new URL(target) : null;
  return url && SCHEMES.has(url.protocol) ? url.href : null;
}
