// Makes elements. A text is always text: nothing in this page reads HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element. attributes: "onclick" and the like take functions; true writes an empty value, false and null none. */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

// Drawn on 24 by 24 in strokes.
const ICONS = {
  plus: "M12 5v14M5 12h14",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h10v11H9zM15 9V4H5v11h4",
  done: "M5 13l5 5L19 7",
  edit: "M4 20l1-5L16 4l4 4L9 19zM14 6l4 4",
  again: "M19 12a7 7 0 1 1-2-5M19 3v5h-5",
  previous: "M14 6l-6 6 6 6",
  next: "M10 6l6 6-6 6",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  sliders: "M4 8h9M17 8h3M4 16h3M11 16h9M15 6v4M9 14v4",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6L6 18",
  save: "M12 4v11M7 10l5 5 5-5M5 20h14",
  open: "M12 15V4M7 9l5-5 5 5M5 20h14",
  theme: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
  more: "M4.5 12h1M11.5 12h1M18.5 12h1",
  keys: "M3 7h18v11H3zM7 11h1M11 11h1M15 11h1M8 14.5h8",
  chart: "M5 20V11M10 20V5M15 20v-7M20 20V8",
  chat: "M4 5h16v11H11l-5 4v-4H4z",
  key: "M9 15a4 4 0 1 1 3-3l8 8M17 17l2-2",
  down: "M12 5v14M6 13l6 6 6-6",
  tool: "M14 7a4 4 0 0 1 5-2l-3 3 2 2 3-3a4 4 0 0 1-5 5l-8 8-3-3 8-8a4 4 0 0 1 1-2z",
};

export function icon(name) {
  return svg("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));
}

/** A button with a drawing. label: what it is called; shown beside it where `shown` is true. */
export function iconButton(name, label, onclick, { shown = false, ...attributes } = {}) {
  const named = shown ? {} : { "aria-label": label, title: label };
  return el(
    "button",
    { type: "button", class: shown ? "button plain" : "icon-button", onclick, ...named, ...attributes },
    icon(name),
    shown && el("span", {}, label),
  );
}

/** A button with a text. */
export function textButton(label, attributes = {}) {
  return el("button", { type: "button", class: "button", ...attributes }, label);
}

/** Names and what they stand for, each pair a row; those that stand for nothing are left out. */
export function pairs(all) {
  const row = ([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value));
  return el("dl", { class: "pairs" }, all.filter(([, value]) => value).map(row));
}

/** Puts exactly these children into an element, and moves only those that are not in their place yet. */
export function place(parent, children) {
  children.forEach((child, index) => {
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
  });
  while (parent.children.length > children.length) parent.lastElementChild.remove();
}

/** Runs what may take away the element that has the focus; the focus is then where `elsewhere` says. */
export function keepingFocus(change, elsewhere) {
  const key = document.activeElement?.dataset?.focus;
  change();
  const active = document.activeElement;
  if (active && active !== document.body && active.checkVisibility()) return;
  const same = key && document.querySelector(`[data-focus="${CSS.escape(key)}"]:not([disabled])`);
  (same?.checkVisibility() ? same : elsewhere()).focus();
}
