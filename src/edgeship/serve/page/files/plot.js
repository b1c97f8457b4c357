// Small plots, drawn as SVG.

import { el, svg } from "./dom.js";

const WIDTH = 240;
const HEIGHT = 56;

/** Values over time as a line, with the last one in words. values: null where nothing is known. */
export function line(label, values, words) {
  const known = values.filter((value) => value !== null);
  const last = known.at(-1);
  const shape = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none" };
  const said = last === undefined ? "–" : words(last);
  return el(
    "figure",
    { class: "plot" },
    el("figcaption", {}, el("span", { class: "plot-label" }, label), el("span", { class: "plot-value" }, said)),
    svg("svg", { ...shape, role: "img", "aria-label": `${label}: ${said}` }, strokes(values, known)),
    el("span", { class: "hint" }, known.length ? `most ${words(Math.max(...known))}` : "nothing yet"),
  );
}

function strokes(values, known) {
  const top = Math.max(...known, 0) || 1;
  const x = (index) => (WIDTH * index) / Math.max(values.length - 1, 1);
  const y = (value) => HEIGHT - 2 - (value / top) * (HEIGHT - 6);
  const lines = [];
  let path = "";
  values.forEach((value, index) => {
    if (value === null) return void (path = path && (lines.push(path), ""));
    path += `${path ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
  });
  if (path) lines.push(path);
  const zero = svg("path", { class: "plot-zero", d: `M0 ${HEIGHT - 2}H${WIDTH}` });
  return [zero, ...lines.map((d) => svg("path", { class: "plot-line", d }))];
}

/** Parts of a whole as bars, each with the interval in which it lies and a limit that it is held to. */
export function bars(label, rows) {
  const drawn = rows.map(({ name, value, low, high, limit, words }) =>
    el(
      "div",
      { class: "bar-row" },
      el("span", { class: "bar-name" }, name),
      svg(
        "svg",
        { viewBox: "0 0 100 12", preserveAspectRatio: "none", "aria-hidden": "true" },
        svg("rect", { class: "bar-track", width: 100, height: 12 }),
        svg("rect", { class: "bar-fill", width: share(value), height: 12 }),
        low !== undefined && interval(share(low), share(high)),
        limit !== undefined && svg("rect", { class: "bar-limit", x: share(limit), width: 0.5, height: 12 }),
      ),
      el("span", { class: "bar-words" }, words),
    ),
  );
  return el("figure", { class: "bars" }, el("figcaption", {}, label), drawn);
}

function interval(low, high) {
  return svg("rect", { class: "bar-interval", x: low, width: high - low, y: 5, height: 2 });
}

function share(value) {
  return Math.min(Math.max(value, 0), 1) * 100;
}
