/** TeX to tokens: {type: command | letter | number | open | close | sup | sub | prime | align | space | text, text}. */

const TOKEN = /\\([A-Za-z]+\*?|[^])|(\d+(?:[.,]\d+)*|\.\d+)|(%[^\n]*)|(\s+)|('+)|([{}^_&~])|([^])/gu;
const SIGNS = {"{": "open", "}": "close", "^": "sup", "_": "sub", "&": "align", "~": "space"};
// In these the argument is text in which spaces count and dollars are maths no more.
const VERBATIM = new Set(["text", "textrm", "textbf", "textit", "texttt", "textsf", "mbox", "hbox", "operatorname", "operatorname*", "tag", "label", "begin", "end", "color", "textcolor"]);
export const MOST = 20000;

/** Tokens of a formula. Formulas over `MOST` characters give none: nobody reads them, and they would block the page. */
export function tokenize(source) {
  if (source.length > MOST) return [];
  const tokens = [];
  TOKEN.lastIndex = 0;
  for (let found; (found = TOKEN.exec(source)); ) {
    const [, command, number, comment, space, prime, sign, letter] = found;
    if (comment !== undefined || space !== undefined) continue;
    if (command !== undefined) {
      tokens.push({type: "command", text: command});
      if (VERBATIM.has(command)) readVerbatim(source, tokens);
    } else if (number !== undefined) tokens.push({type: "number", text: number});
    else if (prime !== undefined) tokens.push({type: "prime", text: "′".repeat(prime.length)});
    else if (sign !== undefined) tokens.push({type: SIGNS[sign], text: sign});
    else tokens.push({type: "letter", text: letter});
  }
  return tokens;
}

/** The braces behind a command as one token of text; inner braces must balance, else they stay ordinary tokens. */
function readVerbatim(source, tokens) {
  const start = TOKEN.lastIndex;
  let at = start;
  while (source[at] === " ") at++;
  if (source[at] !== "{") return;
  let depth = 0;
  for (let end = at; end < source.length; end++) {
    if (source[end] === "\\") end++;
    else if (source[end] === "{") depth++;
    else if (source[end] === "}" && --depth === 0) {
      const inner = source.slice(at + 1, end).replace(/\\([{}$%&#_ ])/g, "$1").replace(/\$/g, "");
      tokens.push({type: "text", text: inner});
      TOKEN.lastIndex = end + 1;
      return;
    }
  }
}
