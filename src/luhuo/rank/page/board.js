/** The order of three or more answers: tiers, the best first; letters in one tier tie. Moved by keys, clicks or dragging. */

import {el, replace} from "/chat/dom.js";
import {w} from "/page/words.js";

export class Board {
  /** `letters`: {answer id: letter}; `changed` is called after each move. */
  constructor(element, letters, changed) {
    Object.assign(this, {element, letters, changed, tiers: [], tieNext: false});
    this.draw();
  }

  get ids() {
    return Object.keys(this.letters).map(Number);
  }

  get unplaced() {
    const placed = new Set(this.tiers.flat());
    return this.ids.filter((id) => !placed.has(id));
  }

  /** Ranks by answer id when at most one is left over, who is then last; else null. */
  ranks() {
    const rest = this.unplaced;
    if (rest.length > 1 || !this.tiers.length) return null;
    const tiers = rest.length ? [...this.tiers, rest] : this.tiers;
    return Object.fromEntries(tiers.flatMap((tier, place) => tier.map((id) => [id, place + 1])));
  }

  restore(ranks) {
    const places = [...new Set(Object.values(ranks))].sort((a, b) => a - b);
    this.tiers = places.map((place) => this.ids.filter((id) => ranks[id] === place));
    this.update();
  }

  /** Put an answer behind the last one, or on its place after `tie`; one that is placed is taken back. */
  toggle(id) {
    const placed = this.tiers.some((tier) => tier.includes(id));
    const tie = this.tieNext && !placed && this.tiers.length;
    this.take(id);
    if (tie) this.tiers.at(-1).push(id);
    else if (!placed) this.tiers.push([id]);
    this.tieNext = false;
    this.update();
  }

  tie() {
    this.tieNext = this.tiers.length > 0 && !this.tieNext;
    this.update();
  }

  clear() {
    this.tiers = [];
    this.tieNext = false;
    this.update();
  }

  take(id) {
    this.tiers = this.tiers.map((tier) => tier.filter((one) => one !== id)).filter((tier) => tier.length);
  }

  /** Move an answer to a place of its own before tier `gap`, or onto tier `tier`. The target is named by who is there. */
  move(id, {before = null, onto = null}) {
    if (onto !== null && onto.includes(id)) return;
    this.tiers = this.tiers.map((tier) => tier.filter((one) => one !== id));
    if (onto !== null) this.tiers.find((tier) => tier.some((one) => onto.includes(one)))?.push(id);
    else this.tiers.splice(before, 0, [id]);
    this.tiers = this.tiers.filter((tier) => tier.length);
    this.update();
  }

  update() {
    this.draw();
    this.changed();
  }

  draw() {
    const row = el("div", {class: "tiers"}, this.gap(0));
    this.tiers.forEach((tier, place) => {
      const box = el("div", {class: "tier", "aria-label": w("rank", {n: place + 1})}, el("span", {class: "place", text: String(place + 1)}), tier.map((id) => this.chip(id)));
      this.receives(box, (id) => this.move(id, {onto: tier}));
      row.append(box, this.gap(place + 1));
    });
    const rest = this.unplaced.length ? el("div", {class: "rest"}, el("span", {class: "place", text: w("unplaced")}), this.unplaced.map((id) => this.chip(id))) : null;
    replace(this.element, el("h2", {text: w("order")}), el("div", {class: "lane"}, row, rest), el("p", {class: "hint", text: w("dragHint")}));
  }

  gap(place) {
    const box = el("div", {class: "gap"});
    this.receives(box, (id) => this.move(id, {before: place}));
    return box;
  }

  chip(id) {
    const letter = this.letters[id];
    const start = (event) => {
      event.dataTransfer.setData("text/plain", String(id));
      event.dataTransfer.effectAllowed = "move";
    };
    return el("button", {type: "button", class: "chip", draggable: "true", text: letter, data: {id}, title: w("place", {letter}), on: {dragstart: start, click: () => this.toggle(id)}});
  }

  receives(box, run) {
    const over = (on) => (event) => {
      if (on) event.preventDefault();
      box.classList.toggle("over", on);
    };
    box.addEventListener("dragover", over(true));
    box.addEventListener("dragleave", over(false));
    box.addEventListener("drop", (event) => {
      event.preventDefault();
      const id = Number(event.dataTransfer.getData("text/plain"));
      if (this.ids.includes(id)) run(id);
    });
  }
}
