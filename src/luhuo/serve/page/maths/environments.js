/** TeX environments in rows and columns: matrices, cases, aligned equations, arrays. */

import {fence, node} from "./elements.js";

const FENCES = {pmatrix: ["(", ")"], bmatrix: ["[", "]"], Bmatrix: ["{", "}"], vmatrix: ["|", "|"], Vmatrix: ["‖", "‖"], cases: ["{", ""], rcases: ["", "}"], dcases: ["{", ""]};
const ALIGNED = new Set(["align", "aligned", "alignat", "alignedat", "split", "eqnarray", "flalign"]);
const SINGLE = new Set(["gather", "gathered", "equation", "multline", "displaymath", "math", "substack"]);
const TABLES = new Set(["matrix", "smallmatrix", "array", "darray", "subarray"]);
const MOST_CELLS = 2000;

/** The element of an environment whose \begin{name} was just read; `substack` takes a group in braces instead. */
export function environment(parser, name) {
  const plain = name.replace(/\*$/, "");
  if (!(plain in FENCES || ALIGNED.has(plain) || SINGLE.has(plain) || TABLES.has(plain))) {
    return node("mtext", {class: "unknown"}, `\\begin{${name}}`);
  }
  const columns = ["array", "darray", "alignat", "alignedat", "subarray"].includes(plain) ? columnsOf(parser) : "";
  const rows = readRows(parser, plain === "substack");
  const table = node("mtable", {class: classOf(plain), displaystyle: ALIGNED.has(plain) || plain === "equation" ? "true" : null});
  for (const cells of rows) {
    table.append(node("mtr", {}, ...cells.map((cell, place) => node("mtd", {class: alignOf(plain, columns, place)}, cell))));
  }
  const [open, close] = FENCES[plain] ?? ["", ""];
  return open || close ? fence(open, table, close) : table;
}

function classOf(name) {
  return ALIGNED.has(name) ? "aligned" : name.endsWith("cases") ? "cases" : name === "substack" ? "substack" : "matrix";
}

function alignOf(name, columns, place) {
  if (ALIGNED.has(name)) return place % 2 ? "left" : "right";
  if (name.endsWith("cases")) return "left";
  return {l: "left", r: "right"}[columns[place]] ?? "centre";
}

/** The letters of an array's column description; its bars are passed over. */
function columnsOf(parser) {
  if (parser.peek().type !== "open") return "";
  let letters = "";
  for (parser.next(); parser.at < parser.tokens.length && parser.peek().type !== "close"; ) letters += parser.next().text;
  parser.next();
  return letters.replace(/[^lcr]/g, "");
}

function readRows(parser, braces) {
  if (braces && parser.peek().type === "open") parser.next();
  const ends = () => parser.isCommand("end");
  const breaks = () => parser.peek().type === "align" || parser.isCommand("\\", "cr", "newline");
  const rows = [[]];
  let cells = 0;
  parser.depth++;
  while (parser.at < parser.tokens.length && cells++ < MOST_CELLS) {
    rows.at(-1).push(parser.depth > 60 ? parser.flat() : parser.row(() => ends() || breaks()));
    if (ends() || parser.peek().type === "close" || parser.at >= parser.tokens.length) break;
    if (parser.next().type !== "align") {
      skipSpace(parser);
      rows.push([]);
    }
  }
  parser.depth--;
  if (ends()) {
    parser.next();
    parser.verbatim();
  } else if (braces && parser.peek().type === "close") parser.next();
  if (rows.length > 1 && rows.at(-1).every((cell) => !cell.hasChildNodes())) rows.pop();
  return rows;
}

/** The optional extra space of a row end, such as \\[4pt]. */
function skipSpace(parser) {
  const {type, text} = parser.peek();
  if (type !== "letter" || text !== "[") return;
  const end = parser.tokens.findIndex((token, place) => place > parser.at && token.text === "]");
  if (end > 0 && end - parser.at < 6) parser.at = end + 1;
}
