// Conversations as files: JSON that this page reads again, and Markdown for people.

import * as shelf from "./shelf.js";
import { checked, shown, title } from "./tree.js";

const FORMAT = "edgeship conversations";

export function asJson(conversations) {
  return JSON.stringify({ format: FORMAT, version: 1, conversations }, null, 2);
}

export function asMarkdown(conversation) {
  const system = conversation.settings.system?.trim();
  const told = system ? [`**System:** ${system}`] : [];
  const parts = [`# ${title(conversation)}`, ...told, ...shown(conversation).flatMap(inMarkdown)];
  return `${parts.join("\n\n")}\n`;
}

function inMarkdown(node) {
  if (node.role === "user") return ["## You", node.content];
  if (node.role === "tool") return node.results.map((result) => `**Result of ${result.name}:** ${result.content}`);
  const calls = node.calls.map((call) => `**Calls ${call.name}:** \`${call.arguments}\``);
  return [`## ${node.model}`, ...(node.content ? [node.content] : []), ...calls];
}

/** Hands a text to the user as a file. */
export function save(text, name, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** A name for a file from a conversation's, which may hold anything. */
export function fileName(conversation, end) {
  const plain = title(conversation).replace(/[^\p{L}\p{N} _-]+/gu, "").trim().slice(0, 60);
  return `${plain || "conversation"}.${end}`;
}

/** Keeps the conversations of a file beside the others. How many. Throws what is wrong with it in a sentence. */
export async function read(file) {
  const found = parsed(await file.text());
  if (found?.format !== FORMAT || !Array.isArray(found.conversations)) throw new Error("It is no export of this page.");
  const conversations = found.conversations.map(checked);
  conversations.forEach(shelf.keep);
  return conversations.length;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`It is no JSON: ${error.message}`);
  }
}
