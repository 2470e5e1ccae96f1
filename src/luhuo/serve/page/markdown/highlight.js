/** Colours for code: one pass with one sticky pattern per language, pieces wrapped in spans by kind. */

import {el} from "../dom.js";
import {LANGUAGES, NAMES} from "./languages.js";

const LONGEST = 100000;
const patterns = new Map();

/** Nodes of a code text; a language that is not known, or a huge text, stays plain. */
export function highlight(text, language) {
  const spec = LANGUAGES[NAMES[language.toLowerCase()] ?? language.toLowerCase()];
  if (!spec || text.length > LONGEST) return [text];
  const pieces = [];
  for (const {kind, piece} of scan(text, spec)) {
    const last = pieces.at(-1);
    if (last && last.kind === kind) last.piece += piece;
    else pieces.push({kind, piece});
  }
  return pieces.map(({kind, piece}) => (kind ? el("span", {class: `hl-${kind}`, text: piece}) : piece));
}

function* scan(text, spec) {
  const pattern = compiled(spec);
  let at = 0;
  for (const found of text.matchAll(pattern)) {
    if (found.index > at) yield {kind: "", piece: text.slice(at, found.index)};
    const name = Object.keys(found.groups).find((group) => found.groups[group] !== undefined);
    yield {kind: name === "word" ? kindOfWord(found[0], text, found.index, spec) : name, piece: found[0]};
    at = found.index + found[0].length;
  }
  if (at < text.length) yield {kind: "", piece: text.slice(at)};
}

function kindOfWord(word, text, start, spec) {
  const known = spec.anyCase ? word.toLowerCase() : word;
  if (spec.keywords?.has(known)) return "keyword";
  if (spec.constants?.has(known)) return "constant";
  if (spec.types?.has(known)) return "type";
  if (text[start + word.length] === "(") return "function";
  return spec.capitalTypes && /^[A-Z][a-z]/.test(word) ? "type" : "";
}

/** The pattern of a language. Its alternatives overlap nowhere, so matching takes linear time. */
function compiled(spec) {
  if (!patterns.has(spec)) {
    const parts = Object.entries(spec.parts).map(([kind, source]) => `(?<${kind}>${source})`);
    patterns.set(spec, new RegExp(parts.join("|"), "gmu"));
  }
  return patterns.get(spec);
}
