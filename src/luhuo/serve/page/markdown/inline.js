/** Markdown inside a line: text to a tree of {type, …} (CommonMark 0.31 emphasis, GitHub's strike-through and bare links). */

const PUNCTUATION = /[\p{P}\p{S}]/u;
const SPACE = /^[\s\u00a0]?$/;
// Emphasis beside Chinese, Japanese or Korean text has no spaces to lean on: **中文。**中文 must still be bold.
const CJK = /[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef]/;
const ESCAPABLE = /[!-/:-@[-`{-~]/;
const BARE = /(?:https?:\/\/|www\.)[^\s<>"'`\u3000-\u303f\uff00-\uffef\u4e00-\u9fff]{1,2000}/y;
const AUTOLINK = /<([a-zA-Z][a-zA-Z0-9+.-]{1,31}:[^\s<>]*|[\w.+-]+@[\w-]+(?:\.[\w-]+)+)>/y;
const ENTITY = /&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|(amp|lt|gt|quot|apos|nbsp|copy|mdash|ndash|hellip|times|rarr|larr));/y;
const ENTITIES = {amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", copy: "©", mdash: "—", ndash: "–", hellip: "…", times: "×", rarr: "→", larr: "←"};
const BREAK_TAG = /<br\s*\/?>/iy;
const DEEPEST = 16;
const SAFE = ["http:", "https:", "mailto:"];

/** The address if a browser may follow it: http, https and mailto alone, decided by the browser's own parser. */
export function safeAddress(address) {
  let url;
  try {
    url = new URL(/^www\./i.test(address) ? `https://${address}` : address);
  } catch {
    return null; // a relative or broken address: an answer has no page of its own to be relative to
  }
  return SAFE.includes(url.protocol) ? url.href : null;
}

/**
 * Nodes of a text: text {text}, code {text}, maths {text, display}, break, em / strong / strike {children},
 * link {href, children}, image {href, text}.
 */
export function parseInline(text, depth = 0) {
  const state = {text, at: 0, nodes: [], depth, missing: new Set()};
  while (state.at < text.length) {
    if (!readSpecial(state)) plain(state, text[state.at++]);
  }
  return emphasise(state.nodes);
}

function plain(state, letters) {
  const last = state.nodes.at(-1);
  if (last?.type === "text") last.text += letters;
  else state.nodes.push({type: "text", text: letters});
}

function push(state, node, length) {
  state.nodes.push(node);
  state.at += length;
  return true;
}

function match(state, pattern) {
  pattern.lastIndex = state.at;
  return pattern.exec(state.text);
}

/** The next place of an end mark. That there is none is remembered: looking again and again would be quadratic. */
function find(state, end, from) {
  if (state.missing.has(end)) return -1;
  const place = state.text.indexOf(end, from);
  if (place < 0) state.missing.add(end);
  return place;
}

function readSpecial(state) {
  const {text, at} = state;
  switch (text[at]) {
    case "\\": return readEscape(state);
    case "`": return readCode(state);
    case "$": return readDollar(state);
    case "*": case "_": case "~": return readDelimiter(state);
    case "[": return state.depth < DEEPEST && readLink(state, at, false);
    case "!": return text[at + 1] === "[" && state.depth < DEEPEST && readLink(state, at + 1, true);
    case "<": return readAngle(state);
    case "&": return readEntity(state);
    case "\n": return readBreak(state);
    case "h": case "w": return readBare(state);
    default: return false;
  }
}

function readEscape(state) {
  const {text, at} = state;
  const next = text[at + 1];
  if (next === "\n") return push(state, {type: "break"}, 2);
  if (next === "(" || next === "[") {
    const end = find(state, next === "(" ? "\\)" : "\\]", at + 2);
    if (end > 0) return push(state, {type: "maths", text: text.slice(at + 2, end), display: next === "["}, end + 2 - at);
  }
  if (next === undefined || !ESCAPABLE.test(next)) return false;
  plain(state, next);
  state.at += 2;
  return true;
}

function readCode(state) {
  const {text, at} = state;
  const ticks = /`+/y;
  ticks.lastIndex = at;
  const fence = ticks.exec(text)[0];
  if (!state.missing.has(fence)) {
    for (let from = at + fence.length; (from = text.indexOf(fence, from)) >= 0; ) {
      ticks.lastIndex = from;
      const run = ticks.exec(text)[0];
      if (run.length === fence.length) {
        const inner = text.slice(at + fence.length, from).replace(/\n/g, " ");
        const padded = /^ .*[^ ].* $/.test(inner);
        return push(state, {type: "code", text: padded ? inner.slice(1, -1) : inner}, from + fence.length - at);
      }
      from += run.length;
    }
    state.missing.add(fence);
  }
  plain(state, fence);
  state.at += fence.length;
  return true;
}

/** $…$ is maths only where it cannot be money: no space inside the borders, no digit behind the end. */
function readDollar(state) {
  const {text, at} = state;
  if (text[at + 1] === "$") {
    const end = find(state, "$$", at + 2);
    if (end > at + 2) return push(state, {type: "maths", text: text.slice(at + 2, end), display: true}, end + 2 - at);
    return false;
  }
  if (SPACE.test(text[at + 1] ?? "")) return false;
  for (let end = at + 1; end < text.length && end - at < 2000; end++) {
    if (text[end] === "\\") end++;
    else if (text[end] === "\n" && text[end + 1] === "\n") return false;
    else if (text[end] === "$") {
      if (/\s/.test(text[end - 1]) || /\d/.test(text[end + 1] ?? "")) return false;
      return push(state, {type: "maths", text: text.slice(at + 1, end), display: false}, end + 1 - at);
    }
  }
  return false;
}

function readDelimiter(state) {
  const {text, at} = state;
  const mark = text[at];
  let end = at;
  while (text[end] === mark) end++;
  const length = end - at;
  if (mark === "~" && length > 2) return false;
  const before = letterBefore(text, at);
  const after = String.fromCodePoint(text.codePointAt(end) ?? 32);
  const [spaceBefore, spaceAfter] = [SPACE.test(before.trim()), SPACE.test(after.trim())];
  const [borderBefore, borderAfter] = [PUNCTUATION.test(before), PUNCTUATION.test(after)];
  const left = !spaceAfter && (!borderAfter || spaceBefore || borderBefore || CJK.test(before));
  const right = !spaceBefore && (!borderBefore || spaceAfter || borderAfter || CJK.test(after));
  const opens = mark === "_" ? left && (!right || borderBefore || CJK.test(before)) : left;
  const closes = mark === "_" ? right && (!left || borderAfter || CJK.test(after)) : right;
  return push(state, {type: "delimiter", mark, length, whole: length, opens, closes}, length);
}

function letterBefore(text, at) {
  if (at === 0) return " ";
  const low = text.charCodeAt(at - 1);
  return low >= 0xdc00 && low <= 0xdfff && at > 1 ? text.slice(at - 2, at) : text[at - 1];
}

function readLink(state, open, image) {
  const {text} = state;
  let close = -1;
  for (let place = open, nested = 0; place < text.length && place - open < 1000; place++) {
    if (text[place] === "\\") place++;
    else if (text[place] === "[") nested++;
    else if (text[place] === "]" && --nested === 0) {
      close = place;
      break;
    }
  }
  if (close < 0 || text[close + 1] !== "(") return false;
  const target = /\(\s*(?:<([^<>\n]*)>|((?:[^\s()\\]|\\.|\((?:[^\s()\\]|\\.)*\))*))(?:\s+(?:"[^"]*"|'[^']*'|\([^()]*\)))?\s*\)/y;
  target.lastIndex = close + 1;
  const found = target.exec(text);
  if (!found) return false;
  const label = text.slice(open + 1, close);
  const href = safeAddress((found[1] ?? found[2]).replace(/\\([!-/:-@[-`{-~])/g, "$1"));
  const length = target.lastIndex - state.at;
  if (image) return push(state, {type: "image", href, text: label}, length);
  return push(state, {type: "link", href, children: parseInline(label, state.depth + 1)}, length);
}

function readAngle(state) {
  const broken = match(state, BREAK_TAG);
  if (broken) return push(state, {type: "break"}, broken[0].length);
  const found = match(state, AUTOLINK);
  if (!found) return false;
  const href = safeAddress(found[1].includes(":") ? found[1] : `mailto:${found[1]}`);
  return href !== null && push(state, {type: "link", href, children: [{type: "text", text: found[1]}]}, found[0].length);
}

function readEntity(state) {
  const found = match(state, ENTITY);
  if (!found) return false;
  const point = found[1] ? Number.parseInt(found[1], 10) : found[2] ? Number.parseInt(found[2], 16) : 0;
  const invalid = point > 0x10ffff || (point >= 0xd800 && point < 0xe000) || (!found[3] && point === 0);
  plain(state, found[3] ? ENTITIES[found[3]] : invalid ? "\ufffd" : String.fromCodePoint(point));
  state.at += found[0].length;
  return true;
}

function readBreak(state) {
  const last = state.nodes.at(-1);
  const hard = last?.type === "text" && last.text.endsWith("  ");
  if (last?.type === "text") last.text = last.text.trimEnd();
  // Models end lines where they mean an end, so a single line break shows as one, as chat pages do.
  push(state, {type: "break", soft: !hard}, 1);
  while (state.text[state.at] === " ") state.at++;
  return true;
}

function readBare(state) {
  const before = state.text[state.at - 1] ?? " ";
  if (/\w/.test(before)) return false;
  const found = match(state, BARE);
  if (!found) return false;
  const address = withoutTail(found[0]);
  const href = /[./]\w/.test(address) ? safeAddress(address) : null;
  return href !== null && push(state, {type: "link", href, children: [{type: "text", text: address}]}, address.length);
}

/** A sentence's punctuation behind an address is not part of it; a bracket is, where it was opened inside. */
function withoutTail(found) {
  let end = found.length;
  while ("*_~.,:;!?)]}".includes(found[end - 1])) end--;
  let open = found.slice(0, end).split("(").length - found.slice(0, end).split(")").length;
  while (found[end] === ")" && open-- > 0) end++;
  return found.slice(0, end);
}

/** Pair the delimiters (CommonMark 0.31, appendix "phase 2"), then turn what is left back into text. */
function emphasise(nodes) {
  const floors = new Map();
  for (let close = 0; close < nodes.length; close++) {
    const closer = nodes[close];
    if (closer.type !== "delimiter" || !closer.closes || closer.length === 0) continue;
    const kind = `${closer.mark}${closer.opens}${closer.whole % 3}`;
    const floor = floors.get(kind) ?? -1;
    let open = close - 1;
    while (open > floor && !pairs(nodes[open], closer)) open--;
    if (open <= floor) {
      floors.set(kind, close - 1);
      continue;
    }
    const opener = nodes[open];
    const used = closer.mark === "~" ? closer.length : Math.min(2, opener.length, closer.length);
    const type = closer.mark === "~" ? "strike" : used === 2 ? "strong" : "em";
    const inner = nodes.slice(open + 1, close).map(settle);
    nodes.splice(open + 1, close - open - 1, {type, children: inner});
    opener.length -= used;
    closer.length -= used;
    for (const [known, place] of floors) floors.set(known, Math.min(place, open + 1));
    close = open + 1; // the closer now stands right behind the new node, and may close again with what is left of it
  }
  return nodes.map(settle).filter((node) => node.type !== "text" || node.text !== "");
}

function pairs(opener, closer) {
  if (opener.type !== "delimiter" || !opener.opens || opener.length === 0 || opener.mark !== closer.mark) return false;
  if (opener.mark === "~") return opener.length === closer.length;
  const either = opener.closes || closer.opens;
  return !(either && (opener.whole + closer.whole) % 3 === 0 && (opener.whole % 3 !== 0 || closer.whole % 3 !== 0));
}

function settle(node) {
  return node.type === "delimiter" ? {type: "text", text: node.mark.repeat(node.length)} : node;
}
