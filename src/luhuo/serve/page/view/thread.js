/** The messages of the open conversation. Views are kept by message; old ones are drawn when the browser has time. */

import {pairOf, path, versions} from "../conversation.js";
import {el, replace} from "../dom.js";
import {t} from "../language.js";
import {MessageView} from "./message.js";

const DRAWN_AT_ONCE = 24;
const NEAR_END_PX = 80;

export class Thread {
  constructor(chat, actions, empty) {
    this.chat = chat;
    this.actions = actions;
    this.empty = empty;
    this.scroller = document.getElementById("scroll");
    this.box = document.getElementById("thread");
    this.bottom = document.getElementById("to-bottom");
    this.views = new Map();
    this.rows = new Map();
    this.waiting = new Set();
    this.follows = true;
    this.top = 0;
    // Messages out of sight have guessed heights, so the end moves when they come near, and when an answer grows.
    const watch = new ResizeObserver(() => this.follows && this.scrollToEnd());
    for (const element of [this.box, this.scroller]) watch.observe(element);
    this.scroller.addEventListener("scroll", () => this.scrolled(), {passive: true});
    this.bottom.addEventListener("click", () => this.toEnd());
    chat.addEventListener("open", () => this.reset());
    chat.addEventListener("change", () => this.sync());
    chat.addEventListener("start", () => this.showBusy());
    chat.addEventListener("grow", (event) => this.grown(event.detail));
    chat.addEventListener("end", (event) => this.ended(event.detail));
  }

  reset() {
    this.views.clear();
    this.rows.clear();
    this.box.replaceChildren();
    this.follows = true;
    this.showBusy();
    this.sync();
    this.toEnd();
  }

  /** Bring the elements in line with the messages that are shown; what has not changed is left alone. */
  sync() {
    const shown = path(this.chat.open);
    if (!shown.length) {
      this.views.clear();
      this.rows.clear();
      replace(this.box, this.empty());
      return;
    }
    const rows = shown.map((node, place) => this.row(node, place === shown.length - 1));
    const kept = new Set(rows);
    for (const child of [...this.box.children]) if (!kept.has(child)) child.remove();
    rows.forEach((row, place) => {
      if (this.box.children[place] !== row) this.box.insertBefore(row, this.box.children[place] ?? null);
    });
    this.drawLater(shown);
    if (this.follows) this.toEnd();
  }

  /** The element of a message, or of two that stand side by side. */
  row(node, last) {
    const pair = pairOf(this.chat.open, node);
    const key = pair.length > 1 ? node.pair : node.id;
    if (!this.rows.has(key)) {
      const views = pair.map((one) => this.view(one).element);
      this.rows.set(key, pair.length > 1 ? el("div", {class: "side-by-side"}, views) : views[0]);
    }
    const state = JSON.stringify([node.id, last, this.chat.config.feedback, pair.map((one) => [one.state, one.vote, one.preferred, one.error, one.finish, one.content.length]), this.places(node).count]);
    const row = this.rows.get(key);
    if (row.dataset.state !== state) {
      row.dataset.state = state;
      for (const one of pair) this.waiting.add(one.id);
    }
    return row;
  }

  view(node) {
    if (!this.views.has(node.id)) this.views.set(node.id, new MessageView(node, this.actions));
    const view = this.views.get(node.id);
    view.node = node; // another window may have written the conversation anew
    return view;
  }

  places(node) {
    const all = versions(this.chat.open, node);
    const index = all.findIndex((one) => one === node || (node.pair && one.pair === node.pair));
    return {index, count: all.length, versions: all};
  }

  /** Draw the newest messages now and the older ones in the browser's idle time, from the end upwards. */
  drawLater(shown) {
    const last = shown.at(-1);
    const todo = shown.filter((node) => pairOf(this.chat.open, node).some((one) => this.waiting.has(one.id)));
    const draw = (node) => {
      for (const one of pairOf(this.chat.open, node)) if (this.waiting.delete(one.id)) this.draw(one, node, node === last);
    };
    todo.splice(-DRAWN_AT_ONCE).forEach(draw);
    const later = (deadline) => {
      while (todo.length && (deadline.timeRemaining() > 4 || deadline.didTimeout)) {
        const node = todo.pop();
        if (this.views.get(node.id)?.node === node) draw(node);
        if (deadline.didTimeout) break;
      }
      if (todo.length) whenIdle(later);
    };
    if (todo.length) whenIdle(later);
  }

  draw(node, chosen, last) {
    const view = this.view(node);
    const focused = [...view.foot.querySelectorAll("button")].indexOf(document.activeElement);
    view.update(this.places(node), {last: last && node === chosen, feedback: this.chat.config.feedback});
    if (pairOf(this.chat.open, node).length > 1) this.drawChoice(view, node, chosen);
    if (focused >= 0) view.foot.querySelectorAll("button")[focused]?.focus(); // the buttons are new, the place is not
  }

  /** Below an answer of two: which is better, and from which the conversation goes on. */
  drawChoice(view, node, chosen) {
    view.element.classList.toggle("chosen", node === chosen);
    if (node.state === "streaming") return;
    const both = pairOf(this.chat.open, node).every((one) => !one.state && !one.error);
    const better = el("button", {type: "button", class: "better", "aria-pressed": String(node.preferred === true), on: {click: () => this.actions.prefer(node)}}, t(node.preferred ? "preferred" : "better"));
    const here = node === chosen ? el("span", {class: "note", text: t("goesOn")}) : el("button", {type: "button", class: "quiet", text: t("goOnHere"), on: {click: () => this.actions.select(node)}});
    view.foot.prepend(el("div", {class: "choice"}, both ? better : null, here));
  }

  grown(node) {
    const view = this.views.get(node.id);
    if (!view || this.pending?.has(node.id)) return;
    this.pending ??= new Set();
    this.pending.add(node.id);
    const due = Math.max(0, (view.rested ?? 0) - performance.now());
    setTimeout(() => requestAnimationFrame(() => this.paint(node, view)), due);
  }

  /** A frame of a growing answer. A slow one (a huge block) is followed by a longer rest, so the page stays usable. */
  paint(node, view) {
    this.pending.delete(node.id);
    if (node.state !== "streaming") return;
    const start = performance.now();
    view.grow();
    view.rested = performance.now() + 3 * (performance.now() - start);
  }

  /** While an answer is written, what would change the conversation is out of reach. */
  showBusy() {
    this.box.classList.toggle("busy", this.chat.busy);
  }

  ended(node) {
    this.showBusy();
    if (this.chat.open.nodes[node.id] === node) this.sync();
  }

  scrolled() {
    const {scrollTop, scrollHeight, clientHeight} = this.scroller;
    if (scrollHeight - scrollTop - clientHeight < NEAR_END_PX) this.follows = true;
    else if (scrollTop < this.top) this.follows = false; // only a person scrolls up
    this.top = scrollTop;
    this.bottom.hidden = this.follows || !this.rows.size;
  }

  toEnd() {
    this.follows = true;
    this.bottom.hidden = true;
    this.scrollToEnd();
  }

  scrollToEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  /** Show another version, and keep the focus on the button that asked for it. */
  async select(node, label) {
    await this.chat.select(node);
    const row = this.rows.get(pairOf(this.chat.open, node).length > 1 ? node.pair : node.id);
    const buttons = [...(row?.querySelectorAll(".switcher button") ?? [])];
    (buttons.find((button) => button.title === label && !button.disabled) ?? buttons.find((button) => !button.disabled))?.focus();
  }

  /** Open the last of the user's messages for editing; whether there is one. */
  editLast() {
    const node = path(this.chat.open).findLast((one) => one.role === "user");
    if (!node) return false;
    this.views.get(node.id).startEditing();
    return true;
  }
}

const whenIdle = globalThis.requestIdleCallback ?? ((run) => setTimeout(() => run({timeRemaining: () => 8, didTimeout: false}), 16));
