// The second view: what a model is made of, how it measured, what it does now.

import { facts } from "./api.js";
import { el, icon, pairs } from "./dom.js";
import { follow } from "./live.js";
import { bars } from "./plot.js";

const view = document.getElementById("about");
let leave = () => {};

/** Shows a model. */
export async function show(name) {
  hide();
  const live = el("div", { class: "plots" });
  const column = el("div", { class: "column wide-column" }, el("h1", {}, name));
  view.replaceChildren(column);
  let id = name;
  try {
    const found = await facts(name);
    id = found.id; // what metrics call it, whichever of its names was asked for
    column.append(...aboveLive(found), part("Now", live), ...belowLive(found));
  } catch (error) {
    column.append(el("p", { class: "failure", role: "alert" }, error.message));
  }
  if (column.isConnected) leave = follow(live, id);
}

/** Ends what goes on in this view. */
export function hide() {
  leave();
  leave = () => {};
}

/** A model's name, and that the release gate found it unfit where it did. gate: what that said. */
export function marked(name, gate) {
  return gate?.startsWith("fail") ? `${name} (release gate: ${gate})` : name;
}

/** A model in one line of figures; empty where nothing is known of it. */
export function inShort({ package: made, record }) {
  const figures = new Map(record?.figures ?? []);
  const passed = figures.get("evaluation pass rate");
  const cases = figures.get("evaluation cases");
  return [
    made?.manifest.recipe.precision?.toUpperCase(),
    made && bytes(made.size_bytes),
    passed && `passes ${passed} of ${cases} cases`,
    figures.has("decode") && `${figures.get("decode")} where it was measured`,
    record?.gate?.startsWith("fail") && `release gate: ${record.gate}`,
  ].filter(Boolean);
}

const UNKNOWN = {
  url: "It runs on another server, which says no more of it.",
  folder: "It has no manifest that can be read, so nothing is known of how it was made.",
};

function aboveLive({ kind, package: made, record }) {
  if (!made) return [el("p", { class: "quiet" }, UNKNOWN[kind] ?? UNKNOWN.folder)];
  return [verdict(record), gate(record), measured(record)].filter(Boolean);
}

function belowLive({ package: made, aliases, defaults: known }) {
  return [made && madeOf(made, aliases), known && defaults(known), made && files(made.manifest)].filter(Boolean);
}

function part(heading, ...children) {
  return el("section", { class: "part" }, el("h2", {}, heading), children);
}

const OUTCOMES = {
  holds: ["holds", "done", "Holds"],
  fails: ["falls", "close", "Does not hold"],
  undecided: ["", null, "Undecided: it may hold, and more cases would tell"],
};

function verdict(record) {
  const said = record?.verdict;
  if (!said) return el("p", { class: "verdict" }, "There is no verdict: it was not held against its original.");
  const [look, sign, words] = OUTCOMES[said.outcome] ?? OUTCOMES[said.holds === true ? "holds" : "fails"];
  return el(
    "section",
    { class: `verdict ${look}`, "aria-label": "Verdict" },
    el("p", { class: "verdict-head" }, sign && icon(sign), words),
    el("ul", {}, (Array.isArray(said.reasons) ? said.reasons : []).map((reason) => el("li", {}, String(reason)))),
  );
}

function gate(record) {
  const words = "What the release gate said of this package";
  return record?.gate && el("p", { class: "quiet" }, `${words}: ${record.gate}.`);
}

function measured(record) {
  if (!record?.figures.length) return null;
  const evaluation = record.measurements?.evaluation;
  const limit = record.verdict?.thresholds?.min_pass_rate;
  return part(
    "Measured",
    el("dl", { class: "tiles" }, record.figures.map(tile)),
    evaluation && passRates(evaluation, limit),
    record.note && el("p", { class: "quiet" }, `Of its record: ${record.note}.`),
  );
}

function tile([label, text]) {
  return el("div", {}, el("dt", {}, label), el("dd", {}, text));
}

function passRates(evaluation, limit) {
  const row = (name, passed, cases, interval = {}) => {
    const value = passed / cases;
    return { name, value, ...interval, limit, words: `${(value * 100).toFixed(1)} % of ${cases}` };
  };
  const { low, high } = evaluation.pass_rate_95 ?? {};
  const slices = Object.entries(evaluation.by_slice ?? {}).map(([name, slice]) => row(name, slice.passed, slice.cases));
  const all = row("all cases", evaluation.passed, evaluation.cases, { low, high });
  const mark = limit === undefined ? "" : `; the mark is the ${limit * 100} % that it must reach`;
  return bars(`Cases that it passes${mark}`, [all, ...(slices.length > 1 ? slices : [])]);
}

function madeOf({ manifest, digest, ref, size_bytes }, aliases) {
  const { checkpoint, adapter, recipe, build } = manifest;
  return part(
    "Made of",
    pairs([
      ["Package", ref],
      ["Also called", aliases.filter((alias) => alias !== ref).join(", ")],
      ["Checkpoint", named(checkpoint)],
      ["Architecture", checkpoint.architecture],
      ["Parameters", checkpoint.parameters?.toLocaleString("en")],
      ["Licence", checkpoint.licence ?? "not stated"],
      ["Adapter", adapter ? `${named(adapter)}, rank ${adapter.rank}` : "none"],
      ["Precision", recipe.precision?.toUpperCase()],
      ["Recipe", words(recipe, ["precision"])],
      ["Made by", `Edgeship ${manifest.edgeship_version}, builder ${build.builder}`],
      ["Tools", words(build.tools ?? {}, [])],
      ["Size", bytes(size_bytes)],
      ["Digest", el("code", {}, digest)],
      ...Object.entries(manifest.not_for ?? {}).map(([tool, reason]) => [`Not for ${tool}`, reason]),
    ]),
  );
}

function defaults({ context_tokens, ...sampling }) {
  const context = ["Context", `${context_tokens.toLocaleString("en")} tokens`];
  const settings = Object.entries(sampling).map(([name, value]) => [plain(name), String(value)]);
  return part("Answers by itself with", pairs([context, ...settings]));
}

function files(manifest) {
  const column = (text, side) => el("th", { scope: "col", class: side }, text);
  const head = el("tr", {}, column("File"), column("Size", "right"), column("SHA-256"));
  const rows = Object.entries(manifest.files).map(fileRow);
  const table = el("table", {}, el("thead", {}, head), el("tbody", {}, rows));
  const wide = el("div", { class: "wide", role: "region", "aria-label": "Files", tabindex: "0" }, table);
  return el("details", { class: "part" }, el("summary", {}, `Its ${rows.length} files`), wide);
}

function fileRow([name, { size_bytes, sha256 }]) {
  const size = el("td", { class: "right" }, bytes(size_bytes));
  return el("tr", {}, el("th", { scope: "row" }, name), size, el("td", {}, el("code", {}, sha256)));
}

function named({ source, revision, digest }) {
  if (source) return revision ? `${source} at ${revision.slice(0, 12)}` : source;
  return digest ? el("code", {}, digest) : "not known";
}

function words(values, without) {
  const isShown = ([name, value]) => !without.includes(name) && value !== null && typeof value !== "object";
  const said = (value) => ({ true: "yes", false: "no" })[value] ?? value;
  return Object.entries(values).filter(isShown).map(([name, value]) => `${plain(name)} ${said(value)}`).join(", ");
}

function plain(name) {
  return name.replaceAll("_", " ");
}

function bytes(count) {
  const megabytes = count / 1e6;
  if (count < 1e4) return `${count.toLocaleString("en")} bytes`;
  if (megabytes >= 1000) return `${(megabytes / 1000).toFixed(2)} GB`;
  return `${megabytes >= 100 ? Math.round(megabytes) : megabytes.toFixed(megabytes < 10 ? 2 : 1)} MB`;
}
