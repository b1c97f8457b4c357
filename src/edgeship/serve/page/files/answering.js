// Answers in the making: from the server's chunks to a message, with what it took.

import { chunks } from "./api.js";
import { body } from "./asking.js";

const SHORTEST_MS = 100;
const running = new Map(); // conversations by their ids, each with what ends its answer

export function isRunning(conversation) {
  return running.has(conversation.id);
}

/** The conversations in which something is being answered. */
export function unfinished() {
  return [...running.values()].map((one) => one.conversation);
}

/** Ends the answer to a conversation; what has come of it stays. */
export function stop(conversation) {
  running.get(conversation.id)?.controller.abort();
}

/** Fills a message with the answer to what stands above it. Never throws. changed: is called after each step. */
export async function answer(conversation, node, changed) {
  const controller = new AbortController();
  running.set(conversation.id, { conversation, controller });
  const clock = { begun: performance.now(), first: null };
  try {
    for await (const chunk of chunks(body(conversation, node.parent), controller.signal)) {
      take(node, chunk, clock);
      changed();
    }
    node.finish ??= "stop";
  } catch (error) {
    node.finish = controller.signal.aborted ? "stopped" : "failed";
    if (node.finish === "failed") node.error = error.message;
  } finally {
    running.delete(conversation.id);
    changed();
  }
}

function take(node, chunk, clock) {
  const choice = chunk.choices[0];
  const delta = choice?.delta ?? {};
  if (delta.content) node.content += delta.content;
  if (delta.reasoning_content) node.thinking += delta.reasoning_content;
  for (const piece of delta.tool_calls ?? []) call(node, piece);
  if (choice?.finish_reason) node.finish = choice.finish_reason;
  const now = performance.now();
  if (delta.content || delta.reasoning_content || delta.tool_calls) clock.first ??= now;
  if (clock.first !== null && choice) clock.last = now; // the token that ends an answer is counted too, and has no text
  if (clock.first !== null) node.took = { first_ms: clock.first - clock.begun, rest_ms: clock.last - clock.first };
  if (chunk.usage) node.took = { ...node.took, ...counted(chunk.usage) };
}

function counted(usage) {
  return { prompt: usage.prompt_tokens, tokens: usage.completion_tokens };
}

/** A tool call comes in pieces: its name first, then its arguments. */
function call(node, piece) {
  const known = (node.calls[piece.index] ??= { id: "", name: "", arguments: "" });
  known.id ||= piece.id ?? "";
  known.name += piece.function?.name ?? "";
  known.arguments += piece.function?.arguments ?? "";
}

/** What an answer took, in words; empty where nothing is known. */
export function took(node) {
  const { first_ms, rest_ms, tokens } = node.took ?? {};
  const said = [];
  if (tokens > 1 && rest_ms !== undefined) said.push(speed(tokens, first_ms, rest_ms));
  if (first_ms !== undefined) said.push(`first token after ${time(first_ms)}`);
  if (tokens !== undefined) said.push(tokens === 1 ? "1 token" : `${tokens.toLocaleString("en")} tokens`);
  return said;
}

/** Tokens a second after the first one; for an answer that came in a moment what is certain, since it came in heaps. */
function speed(tokens, firstMs, restMs) {
  if (restMs >= SHORTEST_MS) return `${figure(((tokens - 1) / restMs) * 1000)} tokens/s`;
  return `at least ${figure((tokens / (firstMs + restMs)) * 1000)} tokens/s`;
}

/** A time in words, from milliseconds. */
export function time(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** A speed in words. */
export function figure(value) {
  return value >= 100 || value === 0 ? Math.round(value).toLocaleString("en") : value.toFixed(1);
}
