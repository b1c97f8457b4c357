// The conversations, kept in this browser and nowhere else: a key of its own for each, and the oldest make room.

import { notice } from "./notices.js";

const PREFIX = "edgeship.conversation.";
const LAST_SETTINGS = "edgeship.settings";
const MOST = 200;

const memory = new Map(); // where the browser keeps nothing for us
const live = new Map(); // a conversation is one object, whoever asks: an answer may be written into it
const forgotten = new Set(); // an answer that was being made does not bring its conversation back

function storage() {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}

function get(name) {
  return storage() ? storage().getItem(name) : (memory.get(name) ?? null);
}

function set(name, value) {
  if (storage()) storage().setItem(name, value);
  else memory.set(name, value);
}

function remove(name) {
  if (storage()) storage().removeItem(name);
  else memory.delete(name);
}

function names() {
  return storage() ? Object.keys(storage()) : [...memory.keys()];
}

/** All conversations, the last one used first. One that cannot be read is left alone and not shown. */
export function all() {
  return names()
    .filter((name) => name.startsWith(PREFIX))
    .map((name) => find(name.slice(PREFIX.length)))
    .filter((found) => found !== null)
    .sort((one, other) => other.updated - one.updated);
}

/** A conversation; null where there is none of this id that can be read. */
export function find(id) {
  if (live.has(id)) return live.get(id);
  const found = parsed(get(PREFIX + id));
  if (found?.id !== id || !Array.isArray(found.nodes)) return null;
  live.set(id, found);
  return found;
}

// Another tab has changed it.
window.addEventListener("storage", (event) => live.delete(event.key?.slice(PREFIX.length)));

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Keeps a conversation. Where there is no room, the one that was not used longest is deleted, and the user told. */
export function keep(conversation) {
  if (forgotten.has(conversation.id)) return;
  live.set(conversation.id, conversation);
  const text = JSON.stringify(conversation);
  let gone = all().filter((other) => other.id !== conversation.id).slice(MOST - 1);
  gone.forEach((other) => remove(PREFIX + other.id));
  for (;;) {
    try {
      set(PREFIX + conversation.id, text);
      break;
    } catch {
      const oldest = all().filter((other) => other.id !== conversation.id).at(-1);
      if (!oldest) return notice("This conversation is too long for the browser to keep. Export it.");
      remove(PREFIX + oldest.id);
      gone = [...gone, oldest];
    }
  }
  if (gone.length) notice("The browser keeps no more, so the oldest conversations were deleted.");
}

/** Names a conversation; an empty name gives it back the one that it had by itself. */
export function rename(id, name) {
  const found = find(id);
  if (!found) return;
  found.title = name;
  keep(found);
}

export function forget(id) {
  forgotten.add(id);
  live.delete(id);
  remove(PREFIX + id);
}

/** Keeps a conversation that was forgotten. */
export function restore(conversation) {
  forgotten.delete(conversation.id);
  keep(conversation);
}

/** The settings that were used last: a new conversation begins with them. */
export function lastSettings() {
  return parsed(get(LAST_SETTINGS)) ?? {};
}

export function keepSettings(settings) {
  try {
    set(LAST_SETTINGS, JSON.stringify(settings));
  } catch {
    // No room: the next conversation begins without.
  }
}

/** Something small that is to be the same the next time; null forgets it. */
export function preference(name, value) {
  const key = `edgeship.${name}`;
  if (value === undefined) return get(key);
  try {
    value === null ? remove(key) : set(key, value);
  } catch {
    // No room: it is asked for again.
  }
  return value;
}
