// What the server does at this moment, read from its metrics again and again while it is looked at.

import { figure, time } from "./answering.js";
import { metrics } from "./api.js";
import { el } from "./dom.js";
import { line } from "./plot.js";

const EVERY_MS = 2000;
const MOST = 60;
const SAMPLE = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})? ([^ ]+)/;
const LABEL = /([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"/g;

/** Follows the metrics of a model into an element. The function that ends it. */
export function follow(element, model) {
  const taken = [];
  let timer = null;
  let ended = false;
  const look = async () => {
    const sample = document.hidden ? null : await read(model);
    if (ended) return;
    if (sample) {
      taken.push(sample);
      if (taken.length > MOST) taken.shift();
      element.replaceChildren(...plots(taken));
    } else if (!document.hidden && !taken.length) {
      element.replaceChildren(el("p", { class: "quiet" }, "This server gives no metrics to this page."));
      return;
    }
    timer = setTimeout(look, EVERY_MS);
  };
  look();
  return () => {
    ended = true;
    clearTimeout(timer);
  };
}

async function read(model) {
  try {
    return { at: performance.now(), ...summed(samples(await metrics()), model) };
  } catch {
    return null;
  }
}

/** Samples of Prometheus' text: the name without its prefix, the labels, the value. */
export function samples(text) {
  const found = [];
  for (const written of text.split("\n")) {
    const match = SAMPLE.exec(written);
    if (!match) continue;
    const labels = Object.fromEntries([...(match[2] ?? "").matchAll(LABEL)].map(([, name, value]) => [name, value]));
    found.push({ name: match[1].replace(/^(edgeship_|vllm:)/, ""), labels, value: Number(match[3]) });
  }
  return found;
}

/** What is shown of a model; samples that name no model are the server's as a whole, and count. */
function summed(all, model) {
  const of = (name) => all.filter((sample) => sample.name === name && (sample.labels.model_name ?? model) === model);
  const sum = (name) => {
    const values = of(name).map((sample) => sample.value);
    return values.length ? values.reduce((one, other) => one + other, 0) : null;
  };
  const first = new Map();
  for (const { labels, value } of of("time_to_first_token_seconds_bucket")) {
    const le = Number(labels.le.replace("+Inf", "Infinity"));
    first.set(le, (first.get(le) ?? 0) + value);
  }
  return {
    running: sum("num_requests_running"),
    waiting: sum("num_requests_waiting"),
    tokens: sum("generation_tokens_total"),
    first,
  };
}

function plots(taken) {
  const count = (value) => String(Math.round(value));
  const speed = taken.map((sample, index) => (index ? rate(taken[index - 1], sample) : null));
  const first = taken.map((sample, index) => (index ? median(taken[index - 1].first, sample.first) : null));
  return [
    line("Answers in the making", taken.map((sample) => sample.running), count),
    line("Requests waiting", taken.map((sample) => sample.waiting), count),
    line("Tokens a second", speed, figure),
    line("First token, median", first, (value) => time(value * 1000)),
  ];
}

function rate(before, now) {
  if (before.tokens === null || now.tokens === null || now.tokens < before.tokens) return null;
  return ((now.tokens - before.tokens) / (now.at - before.at)) * 1000;
}

/** The median of what came into a histogram between two looks, within its bucket in proportion; null for nothing. */
export function median(before, now) {
  const ends = [...now.keys()].sort((one, other) => one - other);
  const come = ends.map((end) => now.get(end) - (before.get(end) ?? 0));
  const half = (come.at(-1) ?? 0) / 2;
  if (half <= 0) return null;
  const at = come.findIndex((count) => count >= half);
  const low = at ? ends[at - 1] : 0;
  if (ends[at] === Infinity) return low;
  const below = at ? come[at - 1] : 0;
  return low + ((half - below) / (come[at] - below)) * (ends[at] - low);
}
