/** A TeX subset to MathML Core, built as elements. What is not known is shown as it was written, never as markup. */

import {fence, functionName, group, joined, letter, node, sized, space} from "./elements.js";
import {environment} from "./environments.js";
import {ACCENTS, ARROWS, DELIMITERS, FUNCTIONS, FUNCTION_NAMES, INTEGRALS, LARGE, LETTERS, LIMIT_FUNCTIONS, OPERATORS, SPACES, STRETCHED, STYLES, UNDER, styled} from "./symbols.js";
import {tokenize} from "./tokens.js";

const DEEPEST = 60;
const END = {type: "end", text: ""};
const SIZES = {big: 1.2, Big: 1.6, bigg: 2.1, Bigg: 2.6};
const IGNORED = new Set(["displaystyle", "textstyle", "scriptstyle", "limits", "nolimits", "nonumber", "notag", "hline", "centering", "allowbreak", "label", "color", "strut", "left.", "right.", "!"]);
const FRACTIONS = {frac: {}, dfrac: {displaystyle: "true"}, tfrac: {displaystyle: "false"}, cfrac: {displaystyle: "true"}};
const BINOMIALS = new Set(["binom", "dbinom", "tbinom"]);
const TEXTS = new Set(["text", "textrm", "textbf", "textit", "texttt", "textsf", "mbox", "hbox"]);

/** The <math> element of a formula; the source stays readable for screen readers and for copying. */
export function maths(source, display) {
  const root = node("math", {display: display ? "block" : "inline", "aria-label": source});
  const tokens = tokenize(source);
  if (!tokens.length) root.append(node("mtext", {}, source));
  else root.append(new Parser(tokens, display).all());
  return root;
}

/** Reads tokens into elements; every method takes what it names and leaves `at` behind it. */
export class Parser {
  constructor(tokens, display) {
    this.tokens = tokens;
    this.at = 0;
    this.depth = 0;
    this.display = display;
  }

  peek() {
    return this.tokens[this.at] ?? END;
  }

  next() {
    return this.tokens[this.at++] ?? END;
  }

  isCommand(...names) {
    const token = this.peek();
    return token.type === "command" && names.includes(token.text);
  }

  /** Everything; a closing brace too many is shown instead of ending the formula. */
  all() {
    const rows = [this.row(() => false)];
    while (this.at < this.tokens.length) rows.push(node("mo", {}, this.next().text), this.row(() => false));
    return group(rows);
  }

  /** Terms until `ends()` or the end of the group. */
  row(ends) {
    const items = [];
    while (this.at < this.tokens.length && this.peek().type !== "close" && !ends()) {
      const item = this.term();
      if (item) items.push(item);
    }
    return group(items);
  }

  /** One atom with what is above and below it. */
  term() {
    const large = this.largeAhead();
    const base = this.peek().type === "sup" || this.peek().type === "sub" ? node("mrow") : this.atom();
    return base === null ? null : this.scripts(base, large);
  }

  largeAhead() {
    const {type, text} = this.peek();
    if (type !== "command") return false;
    return text in LARGE || LIMIT_FUNCTIONS.has(text) || text === "operatorname*" || /^(over|under)(brace|bracket)$/.test(text);
  }

  scripts(base, large) {
    let [under, over, limits] = [null, null, large];
    for (;;) {
      const {type, text} = this.peek();
      if (this.isCommand("limits", "nolimits")) limits = this.next().text === "limits";
      else if (type === "sub" && !under) under = (this.next(), this.argument());
      else if (type === "sup" && (!over || over.prime)) over = joined(over, (this.next(), this.argument()));
      else if (type === "prime" && !over) over = Object.assign(node("mo", {}, (this.next(), text)), {prime: true});
      else break;
    }
    if (!under && !over) return base;
    const beside = !limits || (!this.display && !/brace|bracket/.test(base.dataset?.kind ?? ""));
    const [both, low, high] = beside ? ["msubsup", "msub", "msup"] : ["munderover", "munder", "mover"];
    if (under && over) return node(both, {}, base, under, over);
    return under ? node(low, {}, base, under) : node(high, {}, base, over);
  }

  /** A group in braces or one single token, as TeX takes arguments. */
  argument() {
    if (this.depth >= DEEPEST) return node("mtext", {}, this.next().text);
    if (this.peek().type === "number" && this.peek().text.length > 1) {
      const digits = this.next().text;
      this.tokens.splice(this.at, 0, {type: "number", text: digits.slice(1)});
      return node("mn", {}, digits[0]);
    }
    this.depth++;
    const inner = this.atom() ?? node("mrow");
    this.depth--;
    return inner;
  }

  braces() {
    this.next();
    this.depth++;
    const inner = this.depth > DEEPEST ? this.flat() : this.row(() => false);
    this.depth--;
    if (this.peek().type === "close") this.next();
    return inner;
  }

  /** What lies too deep, as text without structure. */
  flat() {
    let [text, open] = ["", 0];
    while (this.at < this.tokens.length && (open > 0 || this.peek().type !== "close")) {
      const token = this.next();
      open += token.type === "open" ? 1 : token.type === "close" ? -1 : 0;
      text += token.text;
    }
    return node("mtext", {}, text);
  }

  atom() {
    const token = this.peek();
    if (token.type === "open") return this.braces();
    if (token.type === "close" || token.type === "end") return null;
    this.next();
    if (token.type === "command") return this.command(token.text);
    if (token.type === "number") return node("mn", {}, token.text);
    if (token.type === "space") return space(0.25);
    if (token.type === "letter") return letter(token.text);
    if (token.type === "text" || token.type === "align") return node("mtext", {}, token.text);
    return node("mo", {}, token.text);
  }

  command(name) {
    if (Object.hasOwn(LETTERS, name)) return node("mi", /^[Γ-Ω∞]/.test(LETTERS[name]) ? {mathvariant: "normal"} : {}, LETTERS[name]);
    if (Object.hasOwn(OPERATORS, name)) return node("mo", {}, OPERATORS[name]);
    if (Object.hasOwn(LARGE, name)) return node("mo", {largeop: "true", movablelimits: "false"}, LARGE[name]);
    if (Object.hasOwn(INTEGRALS, name)) return node("mo", {largeop: "true"}, INTEGRALS[name]);
    if (Object.hasOwn(SPACES, name)) return space(SPACES[name]);
    if (Object.hasOwn(FRACTIONS, name)) return node("mfrac", FRACTIONS[name], this.argument(), this.argument());
    if (Object.hasOwn(ACCENTS, name)) return this.accent(name, "mover", ACCENTS[name]);
    if (Object.hasOwn(UNDER, name)) return this.accent(name, "munder", UNDER[name]);
    if (Object.hasOwn(ARROWS, name)) return this.arrow(ARROWS[name]);
    if (FUNCTIONS.has(name) || LIMIT_FUNCTIONS.has(name)) return functionName(FUNCTION_NAMES[name] ?? name);
    if (STYLES.has(name)) return this.style(name);
    if (TEXTS.has(name)) return node("mtext", {class: name}, this.verbatim());
    if (BINOMIALS.has(name)) return fence("(", node("mfrac", {linethickness: "0"}, this.argument(), this.argument()), ")");
    const size = /^(big|Big|bigg|Bigg)[lrm]?$/.exec(name);
    if (size) return sized(this.delimiter(), SIZES[size[1]]);
    return this.structure(name);
  }

  /** Commands that build more than one sign. */
  structure(name) {
    switch (name) {
      case "sqrt": return this.root();
      case "left": return this.leftRight();
      case "begin": return environment(this, this.verbatim());
      case "operatorname": case "operatorname*": return functionName(this.verbatim());
      case "overset": case "stackrel": return this.stacked("mover");
      case "underset": return this.stacked("munder");
      case "boxed": return node("mrow", {class: "boxed"}, this.argument());
      case "cancel": return node("mrow", {class: "cancel"}, this.argument());
      case "phantom": return node("mphantom", {}, this.argument());
      case "substack": return environment(this, "substack");
      case "not": return this.negated();
      case "bmod": return node("mo", {lspace: "0.25em", rspace: "0.25em"}, "mod");
      case "pmod": return node("mrow", {}, space(0.5), node("mo", {}, "("), functionName("mod"), space(0.25), this.argument(), node("mo", {}, ")"));
      case "tag": return node("mtext", {class: "tag"}, `(${this.verbatim()})`);
      case "textcolor": return (this.verbatim(), this.argument());
      case "color": case "label": return (this.verbatim(), null);
      case "middle": return node("mo", {stretchy: "true"}, this.delimiter());
      case "\\": case "newline": return node("mspace", {linebreak: "newline", width: "1em"});
      case "|": return node("mo", {stretchy: "false"}, "‖");
      default: return this.other(name);
    }
  }

  other(name) {
    if (IGNORED.has(name)) return null;
    if (Object.hasOwn(DELIMITERS, name)) return node("mo", {stretchy: "false"}, DELIMITERS[name]);
    if (/^[$%&#_{}]$/.test(name)) return node("mo", {stretchy: "false"}, name);
    return node("mtext", {class: "unknown"}, `\\${name}`);
  }

  verbatim() {
    return this.peek().type === "text" ? this.next().text : "";
  }

  root() {
    if (this.peek().text !== "[" || this.peek().type !== "letter") return node("msqrt", {}, this.argument());
    this.next();
    const degree = this.row(() => this.peek().type === "letter" && this.peek().text === "]");
    this.next();
    return node("mroot", {}, this.argument(), degree);
  }

  accent(name, tag, sign) {
    const stretchy = String(STRETCHED.has(name));
    const made = node(tag, tag === "mover" ? {accent: "true"} : {accentunder: "true"}, this.argument(), node("mo", {stretchy}, sign));
    if (/brace|bracket/.test(name)) made.dataset.kind = name;
    return made;
  }

  arrow(sign) {
    let below = null;
    if (this.peek().type === "letter" && this.peek().text === "[") {
      this.next();
      below = this.row(() => this.peek().text === "]" && this.peek().type === "letter");
      this.next();
    }
    const arrow = node("mo", {stretchy: "true", lspace: "0.3em", rspace: "0.3em"}, sign);
    const above = this.argument();
    return below ? node("munderover", {}, arrow, below, above) : node("mover", {}, arrow, above);
  }

  stacked(tag) {
    const script = this.argument();
    return node(tag, {}, this.argument(), script);
  }

  /** Letters of the argument in another alphabet; \mathrm sets them upright, and words of it as one. */
  style(name) {
    const inner = this.argument();
    const upright = name === "mathrm" || name === "rm";
    const letters = inner.localName === "mi" || inner.localName === "mn" ? [inner] : [...inner.querySelectorAll("mi, mn")];
    for (const one of letters) {
      if (upright || name !== "mathit") one.setAttribute("mathvariant", "normal");
      one.textContent = [...one.textContent].map((sign) => styled(sign, name)).join("");
    }
    return inner;
  }

  negated() {
    const inner = this.argument();
    inner.append("\u0338");
    return inner;
  }

  delimiter() {
    const {type, text} = this.next();
    if (text === ".") return "";
    if (type === "command" && text === "|") return "‖";
    return DELIMITERS[text] ?? text;
  }

  leftRight() {
    const open = this.delimiter();
    this.depth++;
    const inner = this.depth > DEEPEST ? this.flat() : this.row(() => this.isCommand("right"));
    this.depth--;
    let close = "";
    if (this.isCommand("right")) {
      this.next();
      close = this.delimiter();
    }
    return fence(open, inner, close);
  }
}
