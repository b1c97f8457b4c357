// A conversation as a tree: an edited question and another answer stand beside the first ones, and nothing is lost.

const ROLES = new Set(["user", "assistant", "tool"]);

/** A conversation without messages. */
export function begun(model, settings) {
  const now = Date.now();
  const id = crypto.getRandomValues(new Uint32Array(4)).join("-");
  return { format: 1, id, title: "", created: now, updated: now, model, settings, nodes: [], leaf: null };
}

/** Adds a message below another one, null for the first, and makes it the one that is shown. */
export function add(conversation, parent, message) {
  const node = { id: (conversation.nodes.at(-1)?.id ?? 0) + 1, parent, ...message };
  conversation.nodes.push(node);
  conversation.leaf = node.id;
  conversation.updated = Date.now();
  return node;
}

/** The messages that are shown, in their order. */
export function shown(conversation, upTo = conversation.leaf) {
  const byId = new Map(conversation.nodes.map((node) => [node.id, node]));
  const path = [];
  for (let node = byId.get(upTo); node; node = byId.get(node.parent)) path.unshift(node);
  return path;
}

/** A message and those that stand for the same place, oldest first. */
export function versions(conversation, node) {
  return conversation.nodes.filter((other) => other.parent === node.parent);
}

/** Shows a message, with what was said after it last. */
export function choose(conversation, node) {
  const after = (parent) => conversation.nodes.findLast((other) => other.parent === parent.id);
  let leaf = node;
  for (let next = after(leaf); next; next = after(leaf)) leaf = next;
  conversation.leaf = leaf.id;
}

/** A conversation's name in the list. */
export function title(conversation) {
  const question = conversation.nodes.find((node) => node.role === "user")?.content ?? "";
  return conversation.title || question.trim().split("\n")[0].slice(0, 80) || "New conversation";
}

/** A conversation that came from a file. Throws what is wrong with it in a sentence. */
export function checked(value) {
  const fault = (what) => new Error(`It holds a conversation ${what}.`);
  if (typeof value !== "object" || value === null || !Array.isArray(value.nodes)) throw fault("without messages");
  let last = 0;
  const nodes = value.nodes.map((node) => {
    // Each has a higher number than the one that it answers, so that nothing goes round in a circle.
    const known = Number.isInteger(node?.id) && node.id > last && (node.parent === null || node.parent < node.id);
    if (!known || !ROLES.has(node.role)) throw fault("with a message that is not of this page");
    last = node.id;
    return message(node);
  });
  const ids = new Set(nodes.map((node) => node.id));
  if (nodes.some((node) => node.parent !== null && !ids.has(node.parent))) throw fault("with an answer to nothing");
  const read = begun(text(value.model), texts(value.settings));
  const leaf = ids.has(value.leaf) ? value.leaf : (nodes.at(-1)?.id ?? null);
  const updated = Number.isFinite(value.updated) ? value.updated : read.updated;
  return { ...read, updated, title: text(value.title).slice(0, 200), nodes, leaf };
}

function message(node) {
  return {
    id: node.id,
    parent: node.parent,
    role: node.role,
    model: text(node.model),
    content: text(node.content),
    thinking: text(node.thinking),
    calls: list(node.calls),
    results: list(node.results),
    json: node.json === true,
    finish: text(node.finish) || "stop",
    error: text(node.error),
    took: numbers(node.took),
  };
}

function numbers(values) {
  return Object.fromEntries(Object.entries(values ?? {}).filter(([, value]) => Number.isFinite(value)));
}

function text(value) {
  return typeof value === "string" ? value : "";
}

function list(value) {
  return (Array.isArray(value) ? value : []).map(texts);
}

function texts(values) {
  return Object.fromEntries(Object.entries(values ?? {}).map(([name, given]) => [name, text(given)]));
}
