/** Markdown to elements, block by block; a growing answer is drawn again from its last block only. */

import {append, el, icon, iconButton, replace} from "../dom.js";
import {maths} from "../maths/mathml.js";
import {t} from "../language.js";
import {parseBlocks} from "./blocks.js";
import {highlight} from "./highlight.js";
import {parseInline} from "./inline.js";

/** The view of one text that may grow. `update(text)` shows the text; what is drawn and has not changed stays. */
export class MarkdownView {
  constructor() {
    this.element = el("div", {class: "markdown"});
    this.text = "";
    this.start = 0;
  }

  update(text) {
    const whole = text.replace(/\r\n?/g, "\n");
    if (whole === this.text && this.element.firstChild) return;
    if (!whole.startsWith(this.text)) {
      this.start = 0;
      this.element.replaceChildren();
    }
    this.text = whole;
    // The last element belongs to the block that was still growing.
    this.element.lastElementChild?.remove();
    const blocks = parseBlocks(whole.slice(this.start));
    append(this.element, blocks.map((block) => renderBlock(block)));
    this.start += blocks.at(-1)?.start ?? 0;
  }
}

/** The element of one block. */
export function renderBlock(block) {
  switch (block.type) {
    case "heading": return el(`h${block.level}`, {}, inline(block.text));
    case "code": return codeBlock(block);
    case "maths": return el("div", {class: "maths-block", tabindex: "0"}, maths(block.text, true));
    case "rule": return el("hr");
    case "quote": return el("blockquote", {}, block.blocks.map(renderBlock));
    case "list": return list(block);
    case "table": return table(block);
    default: return el("p", {}, inline(block.text));
  }
}

function list(block) {
  const items = block.items.map(({task, blocks}) => {
    const drawn = blocks.flatMap((inner) => (block.tight && inner.type === "paragraph" ? inline(inner.text) : [renderBlock(inner)]));
    const box = task === null ? null : el("input", {type: "checkbox", disabled: true, checked: task, "aria-label": t(task ? "done" : "notDone")});
    return el("li", {class: task === null ? null : "task"}, box, drawn);
  });
  if (!block.ordered) return el("ul", {}, items);
  return el("ol", {start: block.first === 1 ? null : block.first}, items);
}

function table(block) {
  const cell = (tag, text, column) => el(tag, {class: `align-${block.align[column]}`, scope: tag === "th" ? "col" : null}, inline(text));
  const head = el("tr", {}, block.head.map((text, column) => cell("th", text, column)));
  const rows = block.rows.map((row) => el("tr", {}, row.map((text, column) => cell("td", text, column))));
  return el("div", {class: "table", tabindex: "0"}, el("table", {}, el("thead", {}, head), el("tbody", {}, rows)));
}

function codeBlock(block) {
  const copy = iconButton("copy", t("copyCode"), () => copyText(block.text, copy));
  const name = el("span", {class: "code-language", text: block.language || t("code")});
  const code = el("code", {}, highlight(block.text, block.language));
  return el("div", {class: "code-block"}, el("div", {class: "code-head"}, name, copy), el("pre", {tabindex: "0"}, code));
}

/** Copy a text, and show on the button that it was done. */
export async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyBySelection(text); // no clipboard interface, or no permission: plain HTTP on another machine's address
  }
  button.classList.add("done");
  replace(button, icon("check"));
  setTimeout(() => {
    button.classList.remove("done");
    replace(button, icon("copy"));
  }, 1500);
}

function copyBySelection(text) {
  const area = el("textarea", {class: "visually-hidden"});
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** The nodes of a text without blocks. */
export function inline(text) {
  return parseInline(text).map(renderInline);
}

function renderInline(node) {
  switch (node.type) {
    case "code": return el("code", {text: node.text});
    case "maths": return maths(node.text, node.display);
    case "break": return el("br");
    case "em": return el("em", {}, node.children.map(renderInline));
    case "strong": return el("strong", {}, node.children.map(renderInline));
    case "strike": return el("s", {}, node.children.map(renderInline));
    case "link": return link(node.href, node.children.map(renderInline));
    // A picture's address would tell an outside host who reads: it is a link that the reader may follow.
    case "image": return link(node.href, [`🖼 ${node.text || t("picture")}`]);
    default: return document.createTextNode(node.text);
  }
}

function link(href, children) {
  if (href === null) return el("span", {}, children);
  return el("a", {href, rel: "noopener noreferrer nofollow", target: "_blank"}, children);
}
