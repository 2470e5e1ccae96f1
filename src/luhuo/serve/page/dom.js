/** Elements without markup strings: text only ever becomes text nodes, so nothing a model writes can turn into a tag. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element. `attributes`: `class`, `text`, `on` ({event: function}) and `data` are special; true is an empty
 * attribute; null, undefined and false leave one out. Children are nodes, texts, or lists of them.
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.className = value;
    else if (name === "text") element.textContent = value;
    else if (name === "on") for (const [event, run] of Object.entries(value)) element.addEventListener(event, run);
    else if (name === "data") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  append(element, children);
  return element;
}

export function append(element, children) {
  for (const child of [children].flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

export function replace(element, ...children) {
  element.replaceChildren();
  return append(element, children);
}

/** Strokes on a 24 by 24 grid. */
const SHAPES = {
  plus: ["M12 5v14", "M5 12h14"],
  menu: ["M4 7h16", "M4 12h16", "M4 17h16"],
  send: ["M12 19V5", "M6 11l6-6 6 6"],
  stop: ["M7 7h10v10H7z"],
  copy: ["M9 9h10v11H9z", "M15 9V4H5v11h4"],
  check: ["M5 12.5l4.5 4.5L19 7.5"],
  edit: ["M4 20l1-4L16 5l3 3L8 19z", "M14 7l3 3"],
  again: ["M19 12a7 7 0 1 1-2.2-5.1", "M19 4v4h-4"],
  up: ["M8 20H4v-9h4", "M8 11l4-8c2 0 3 1.5 2.5 3.5L14 10h5.5c1 0 1.6 1 1.3 2l-2 6.5c-.2.9-1 1.5-2 1.5H8z"],
  down: ["M8 4H4v9h4", "M8 13l4 8c2 0 3-1.5 2.5-3.5L14 14h5.5c1 0 1.6-1 1.3-2l-2-6.5C18.600 4.600 17.800 4 16.800 4H8z"],
  trash: ["M5 7h14", "M9 7V4h6v3", "M7 7l1 13h8l1-13"],
  sliders: ["M4 7h9", "M17 7h3", "M4 17h3", "M11 17h9", "M13 7a2 2 0 1 0 4 0 2 2 0 0 0-4 0", "M7 17a2 2 0 1 0 4 0 2 2 0 0 0-4 0"],
  download: ["M12 4v11", "M7 11l5 5 5-5", "M5 20h14"],
  upload: ["M12 16V5", "M7 9l5-5 5 5", "M5 20h14"],
  search: ["M10.500 4a6.500 6.500 0 1 0 0 13 6.500 6.500 0 0 0 0-13", "M15.500 15.500L20 20"],
  left: ["M14 6l-6 6 6 6"],
  right: ["M10 6l6 6-6 6"],
  columns: ["M4 5h16v14H4z", "M12 5v14"],
  close: ["M6 6l12 12", "M18 6L6 18"],
  more: ["M6 12h.01", "M12 12h.01", "M18 12h.01"],
  bottom: ["M12 5v14", "M6 13l6 6 6-6"],
  tool: ["M14.500 6.500a4 4 0 0 0-5 5L4 17l3 3 5.500-5.500a4 4 0 0 0 5-5L15 12l-3-3z"],
  gear: ["M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6", "M12 3v3", "M12 18v3", "M3 12h3", "M18 12h3", "M5.600 5.600l2.100 2.100", "M16.300 16.300l2.100 2.100", "M5.600 18.400l2.100-2.100", "M16.300 7.700l2.100-2.100"],
};

/** A drawing that screen readers pass over; the button that carries it has the label. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", `icon icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  for (const shape of SHAPES[name]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", shape);
    svg.append(path);
  }
  return svg;
}

/** A button with a drawing, a label for everyone, and what it does. */
export function iconButton(name, label, run, attributes = {}) {
  return el("button", {type: "button", class: "icon-button", title: label, "aria-label": label, ...attributes, on: {click: run}}, icon(name));
}

/** A short random name, unique in a conversation and across imports. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  return [...bytes].map((byte) => byte.toString(36).padStart(2, "0")).join("");
}
