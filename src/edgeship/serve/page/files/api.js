// The server, as any client sees it: the page has no way in of its own.

import { askForKey, keyInUse } from "./key.js";

const HERE = new URL(".", document.baseURI);

/** What a request came to that did not come to an answer. status: 0 where no answer came at all. */
export class Failure extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** The response to a request, after the user was asked for a key where one is needed. Throws Failure. */
export async function request(path, { body, signal, quiet = false } = {}) {
  for (;;) {
    const response = await sent(path, body, signal);
    if (response.ok) return response;
    const failure = await refusal(response);
    if (response.status !== 401 || quiet || !(await askForKey(failure.message))) throw failure;
  }
}

async function sent(path, body, signal) {
  const headers = {};
  if (body) headers["content-type"] = "application/json";
  if (keyInUse()) headers.authorization = `Bearer ${keyInUse()}`;
  try {
    const sending = body ? { method: "POST", body: JSON.stringify(body) } : {};
    return await fetch(new URL(path, HERE), { ...sending, headers, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("The server cannot be reached. See whether it still runs, and try again.");
  }
}

async function refusal(response) {
  const said = (await response.json().catch(() => null))?.error?.message;
  const words = said ? sentence(said) : `The server answered ${response.status} and said no more.`;
  const { status } = response;
  return new Failure(status === 429 || status === 503 ? `The server is busy: ${words}` : words, status);
}

function sentence(text) {
  const begun = text[0].toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

/** The models as the server lists them: each with its name as id, and as gate what the release gate said of it. */
export async function models() {
  return (await (await request("v1/models")).json()).data;
}

/** What the server knows of a model; null where it does not say. */
export async function facts(name) {
  const path = `page/models/${name.split("/").map(encodeURIComponent).join("/")}`;
  return (await request(path)).json();
}

/** The text of the server's metrics. */
export async function metrics() {
  return (await request("metrics", { quiet: true })).text();
}

/** The chunks of a streamed answer. Throws Failure, also for an error that comes in the middle. */
export async function* chunks(body, signal) {
  const response = await request("v1/chat/completions", { body, signal });
  for await (const data of events(response)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Failure(sentence(chunk.error.message));
    yield chunk;
  }
  throw new Failure("The connection broke before the answer was complete.");
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await read(reader);
    if (done) return;
    rest += value;
    const whole = rest.split("\n\n");
    rest = whole.pop();
    for (const event of whole) if (event.startsWith("data: ")) yield event.slice(6);
  }
}

async function read(reader) {
  try {
    return await reader.read();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("The connection broke before the answer was complete.");
  }
}
