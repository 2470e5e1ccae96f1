/** MathML elements and the small groups of them that formulas are made of. */

const MATHML = "http://www.w3.org/1998/Math/MathML";

/** A MathML element. */
export function node(tag, attributes = {}, ...children) {
  const element = document.createElementNS(MATHML, tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function group(items) {
  return items.length === 1 ? items[0] : node("mrow", {}, ...items);
}

export function fence(open, inner, close) {
  const side = (sign, form) => (sign ? [node("mo", {stretchy: "true", fence: "true", form}, sign)] : []);
  return node("mrow", {}, ...side(open, "prefix"), inner, ...side(close, "postfix"));
}

export function sized(sign, size) {
  return node("mo", {stretchy: "true", symmetric: "true", minsize: `${size}em`, maxsize: `${size}em`}, sign);
}

export function space(width) {
  return node("mspace", {width: `${width}em`});
}

export function functionName(name) {
  const words = node("mi", {mathvariant: "normal"}, name);
  return node("mrow", {class: "function"}, words);
}

export function joined(first, second) {
  return first ? node("mrow", {}, first, second) : second;
}

export function letter(sign) {
  if (/\p{L}/u.test(sign)) return node(/[\u2e80-\uffff]/.test(sign) ? "mtext" : "mi", {}, sign);
  if (sign === "-") return node("mo", {}, "−");
  if (sign === "*") return node("mo", {}, "∗");
  return node("mo", /^[()[\]|/]$/.test(sign) ? {stretchy: "false"} : {}, sign);
}
