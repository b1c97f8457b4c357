// From a conversation and its settings to a request: what is empty is left to the model's own defaults.

import { shown } from "./tree.js";

/** The numbers among the settings, with what they may be. */
export const NUMBERS = [
  { name: "temperature", label: "Temperature", min: 0, step: "any", help: "0 always takes the likeliest token." },
  { name: "top_p", label: "Top p", min: 0, max: 1, step: "any", help: "Tokens that together are so likely." },
  { name: "top_k", label: "Top k", min: 0, step: 1, help: "So many of the likeliest tokens; 0 takes all." },
  { name: "min_p", label: "Min p", min: 0, max: 1, step: "any", help: "As a share of the likeliest token's." },
  { name: "max_tokens", label: "Longest answer", min: 1, step: 1, help: "In tokens, thinking counted." },
  { name: "seed", label: "Seed", min: 0, step: 1, help: "The same seed gives the same answer." },
  { name: "repetition_penalty", label: "Repetition penalty", min: 0, step: "any", help: "1 changes nothing." },
  { name: "presence_penalty", label: "Presence penalty", step: "any", help: "Taken from tokens that the answer has." },
  { name: "frequency_penalty", label: "Frequency penalty", step: "any", help: "The same, for each time." },
];

/** The body of the request for what comes after the message `upTo`. Throws what is wrong in a sentence. */
export function body(conversation, upTo) {
  const { settings, model } = conversation;
  const made = { model, messages: messages(conversation, upTo), stream: true, stream_options: { include_usage: true } };
  for (const { name, label } of NUMBERS) if (settings[name]) made[name] = number(settings[name], label);
  if (settings.schema?.trim()) {
    const schema = json(settings.schema, "The JSON schema");
    made.response_format = { type: "json_schema", json_schema: { name: "answer", schema, strict: true } };
  }
  if (settings.tools?.trim()) made.tools = tools(json(settings.tools, "The list of tools"));
  return { ...made, ...thinking(settings.thinking) };
}

/** How much the model thinks: "on:" and the variable of its template that lets it, or a level. */
function thinking(given) {
  if (given?.startsWith("on:")) return { chat_template_kwargs: { [given.slice(3)]: true } };
  return given ? { reasoning_effort: given } : {};
}

function messages(conversation, upTo) {
  const system = conversation.settings.system?.trim();
  const said = shown(conversation, upTo).flatMap(message);
  return system ? [{ role: "system", content: system }, ...said] : said;
}

function message(node) {
  if (node.role === "tool") return node.results.map(({ id, content }) => ({ role: "tool", tool_call_id: id, content }));
  if (!node.calls?.length) return [{ role: node.role, content: node.content }];
  return [{ role: node.role, content: node.content || null, tool_calls: node.calls.map(toolCall) }];
}

function toolCall({ id, name, arguments: given }) {
  return { id, type: "function", function: { name, arguments: given } };
}

function tools(given) {
  if (!Array.isArray(given)) throw new Error("The list of tools is no JSON list. Write [ ... ].");
  return given.map((tool) => (tool?.function ? tool : { type: "function", function: tool }));
}

function number(text, label) {
  const value = Number(text);
  if (!Number.isFinite(value)) throw new Error(`${label} is ${text}, which is no number.`);
  return value;
}

/** What a text says as JSON. Throws what is wrong in a sentence. */
export function json(text, what) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${what} is no JSON: ${error.message}`);
  }
}
