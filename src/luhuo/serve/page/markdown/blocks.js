/** Markdown's blocks: text to a list of {type, start, …} (CommonMark 0.31 and GitHub's tables and tasks, no raw HTML). */

const DEEPEST = 24;
const FENCE = /^( {0,3})(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t](.*))?$/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const UNDERLINE = /^ {0,3}(=+|-+)[ \t]*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-+*]|\d{1,9}[.)])(?:([ \t]+)(.*)|)$/;
const MATHS = /^ {0,3}(\$\$|\\\[)(.*)$/;
const CODE = /^(?: {4}|\t)/;
const DIVIDER = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const BLANK = /^[ \t]*$/;

/**
 * Blocks of a text; `start` is the offset of a block's first line, so that a growing text is read again only from its
 * last block. Types: heading {level, text}, paragraph {text}, code {language, text, open}, maths {text}, rule, quote
 * {blocks}, list {ordered, first, tight, items: [{task, blocks}]}, table {align, head, rows}.
 */
export function parseBlocks(text, depth = 0) {
  const lines = text.split("\n");
  const blocks = [];
  let offset = 0;
  let at = 0;
  while (at < lines.length) {
    if (BLANK.test(lines[at])) {
      offset += lines[at++].length + 1;
      continue;
    }
    const [block, next] = readBlock(lines, at, depth);
    block.start = offset;
    blocks.push(block);
    while (at < next) offset += lines[at++].length + 1;
  }
  return blocks;
}

function readBlock(lines, at, depth) {
  const line = lines[at];
  let found;
  if (CODE.test(line)) return readIndented(lines, at);
  if ((found = FENCE.exec(line))) return readFence(lines, at, found);
  if ((found = HEADING.exec(line))) return [{type: "heading", level: found[1].length, text: withoutHashes(found[2] ?? "")}, at + 1];
  if (RULE.test(line)) return [{type: "rule"}, at + 1];
  if ((found = MATHS.exec(line))) {
    const maths = readMaths(lines, at, found);
    if (maths) return maths;
  }
  if (depth < DEEPEST && QUOTE.test(line)) return readQuote(lines, at, depth);
  if (depth < DEEPEST && ITEM.test(line)) return readList(lines, at, depth);
  if (isTable(lines, at)) return readTable(lines, at);
  return readParagraph(lines, at);
}

/** A heading's text without the hashes that may close it. Counted by hand: a pattern would be quadratic in spaces. */
function withoutHashes(line) {
  const text = line.trim();
  let end = text.length;
  while (text[end - 1] === "#") end--;
  return end === text.length || (end > 0 && !/[ \t]/.test(text[end - 1])) ? text : text.slice(0, end).trimEnd();
}

function readIndented(lines, at) {
  const kept = [];
  let next = at;
  while (next < lines.length && (CODE.test(lines[next]) || BLANK.test(lines[next]))) kept.push(lines[next++].replace(CODE, ""));
  while (BLANK.test(kept.at(-1))) {
    kept.pop();
    next--;
  }
  return [{type: "code", language: "", text: kept.join("\n"), open: false}, next];
}

function readFence(lines, at, [, indent, fence, info]) {
  const end = new RegExp(`^ {0,3}\\${fence[0]}{${fence.length},}[ \\t]*$`);
  const margin = new RegExp(`^ {0,${indent.length}}`);
  const kept = [];
  let next = at + 1;
  while (next < lines.length && !end.test(lines[next])) kept.push(lines[next++].replace(margin, ""));
  const open = next >= lines.length;
  return [{type: "code", language: info.trim().split(/[\s{,]/, 1)[0], text: kept.join("\n"), open}, Math.min(next + 1, lines.length)];
}

/** Maths between lines of $$ or \[ and \], or all on one line; null where text follows the end. */
function readMaths(lines, at, [, start, rest]) {
  const end = start === "$$" ? "$$" : "\\]";
  const kept = [];
  for (let next = at; next < lines.length; next++) {
    const line = next === at ? rest : lines[next];
    if (next > at && BLANK.test(line) && kept.every((one) => BLANK.test(one))) return null;
    const place = line.indexOf(end);
    if (place >= 0) {
      if (!/^[ \t.,;，。；]*$/.test(line.slice(place + 2))) return null;
      kept.push(line.slice(0, place));
      return [{type: "maths", text: kept.join("\n")}, next + 1];
    }
    kept.push(line);
  }
  return [{type: "maths", text: kept.join("\n"), open: true}, lines.length];
}

function readQuote(lines, at, depth) {
  const kept = [];
  let next = at;
  let paragraph = false;
  while (next < lines.length) {
    const quoted = QUOTE.test(lines[next]);
    if (!quoted && (!paragraph || interrupts(lines, next))) break;
    kept.push(lines[next].replace(QUOTE, ""));
    paragraph = !BLANK.test(kept.at(-1)) && !FENCE.test(kept.at(-1));
    next++;
  }
  return [{type: "quote", blocks: parseBlocks(kept.join("\n"), depth + 1)}, next];
}

/** Whether a line ends a paragraph without a blank line between. */
function interrupts(lines, at) {
  const line = lines[at];
  if (BLANK.test(line) || FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line)) return true;
  if (/^ {0,3}(\$\$|\\\[)/.test(line)) return true;
  const item = ITEM.exec(line);
  return (item !== null && Boolean(item[4]) && (/^[-+*]$/.test(item[2]) || Number.parseInt(item[2], 10) === 1)) || isTable(lines, at);
}

function readParagraph(lines, at) {
  const kept = [lines[at].trimStart()];
  let next = at + 1;
  while (next < lines.length) {
    const under = UNDERLINE.exec(lines[next]);
    if (under) return [{type: "heading", level: under[1][0] === "=" ? 1 : 2, text: kept.join("\n").trim()}, next + 1];
    if (interrupts(lines, next)) break;
    kept.push(lines[next++].trimStart());
  }
  return [{type: "paragraph", text: kept.join("\n").trimEnd()}, next];
}

function readList(lines, at, depth) {
  const [, , mark] = ITEM.exec(lines[at]);
  const kind = mark.at(-1);
  const list = {type: "list", ordered: /\d/.test(mark), first: Number.parseInt(mark, 10) || 0, tight: true, items: []};
  let next = at;
  while (next < lines.length) {
    const found = ITEM.exec(lines[next]);
    if (!found || found[2].at(-1) !== kind || RULE.test(lines[next])) break;
    const [item, end] = readItem(lines, next, found, depth);
    list.items.push(item);
    let after = end;
    while (after < lines.length && BLANK.test(lines[after])) after++;
    const another = after < lines.length && ITEM.exec(lines[after])?.[2].at(-1) === kind && !RULE.test(lines[after]);
    if (item.loose || (after > end && another)) list.tight = false;
    next = another ? after : end;
    if (!another) break;
  }
  return [list, next];
}

function readItem(lines, at, [, indent, mark, gap = " ", first = ""], depth) {
  const margin = indent.length + mark.length + (gap.length > 4 || !first ? 1 : gap.length);
  const kept = [gap.length > 4 ? gap.slice(1) + first : first];
  let next = at + 1;
  let fence = FENCE.exec(kept[0]);
  while (next < lines.length) {
    const line = lines[next].replace(/^\t+/, (tabs) => "    ".repeat(tabs.length));
    const inside = line.length - line.trimStart().length;
    if (BLANK.test(line)) {
      let after = next;
      while (after < lines.length && BLANK.test(lines[after])) after++;
      if (after >= lines.length || !belongs(lines[after], margin)) break;
      kept.push(...Array(after - next).fill(""));
      next = after;
      continue;
    } else if (inside >= margin || (inside >= 2 && ITEM.test(line.trimStart()) && inside > indent.length)) {
      kept.push(line.slice(Math.min(inside, margin)));
    } else if (fence || BLANK.test(lines[next - 1]) || interrupts(lines, next) || ITEM.test(line)) break;
    else kept.push(line.trimStart());
    const mark = FENCE.exec(kept.at(-1));
    if (mark) fence = fence ? null : mark;
    next++;
  }
  const task = /^\[([ xX])\][ \t]+/.exec(kept[0]);
  if (task) kept[0] = kept[0].slice(task[0].length);
  const blocks = parseBlocks(kept.join("\n"), depth + 1);
  const loose = blocks.length > 1 && blocks.some((block, place) => block.type === "paragraph" && place > 0) && kept.includes("");
  return [{task: task ? task[1] !== " " : null, blocks, loose}, next];
}

function belongs(line, margin) {
  const wide = line.replace(/^\t+/, (tabs) => "    ".repeat(tabs.length));
  return wide.length - wide.trimStart().length >= margin;
}

function isTable(lines, at) {
  const next = lines[at + 1];
  if (next === undefined || !lines[at].includes("|") || !DIVIDER.test(next) || !next.includes("-")) return false;
  return cells(lines[at]).length === cells(next).length;
}

function readTable(lines, at) {
  const align = cells(lines[at + 1]).map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "end") : "start"));
  const rows = [];
  let next = at + 2;
  while (next < lines.length && !BLANK.test(lines[next]) && (lines[next].includes("|") || !interrupts(lines, next))) {
    const row = cells(lines[next++]).slice(0, align.length);
    rows.push([...row, ...Array(align.length - row.length).fill("")]);
  }
  return [{type: "table", align, head: cells(lines[at]), rows}, next];
}

/** A row's cells; an escaped bar and a bar in a code span do not divide. */
function cells(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/(^|[^\\])\|$/, "$1");
  const found = [""];
  let ticks = false;
  for (let place = 0; place < inner.length; place++) {
    const letter = inner[place];
    if (letter === "\\" && inner[place + 1] === "|") {
      found[found.length - 1] += "|";
      place++;
    } else if (letter === "|" && !ticks) found.push("");
    else {
      if (letter === "`") ticks = ticks ? false : inner.indexOf("`", place + 1) > 0;
      found[found.length - 1] += letter;
    }
  }
  return found.map((cell) => cell.trim());
}
