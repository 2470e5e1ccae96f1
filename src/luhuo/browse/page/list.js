/** What fits, page after page: the server looks for a while and says where it goes on. */

import {el, replace} from "/chat/dom.js";
import {ask, problem} from "/page/server.js";
import {w} from "/page/words.js";

const WANTED = 30;

/** The documents of one search. They stay when one looks at a document and comes back. */
export class List {
  constructor(view, parameters) {
    Object.assign(this, {view, parameters, hits: [], next: [0, 0], looked: 0, parts: 0, running: null});
  }

  /** Show what is there, and look on if nothing is. */
  show() {
    this.status = el("p", {class: "status"});
    this.items = el("ol", {class: "hits"}, this.hits.map(card));
    this.button = el("button", {type: "button", class: "more", on: {click: () => (this.running ? this.stop() : this.more())}});
    replace(this.view, this.status, this.items, this.button);
    this.update();
    if (!this.hits.length && this.next) this.more();
  }

  stop() {
    this.running?.abort();
    this.running = null;
    this.update();
  }

  /** Look on until a page is full or everything was seen. */
  async more() {
    const mine = (this.running = new AbortController());
    const wanted = this.hits.length + WANTED;
    try {
      while (this.running === mine && this.next && this.hits.length < wanted) {
        const parameters = new URLSearchParams(this.parameters);
        parameters.set("part", this.next[0]);
        parameters.set("line", this.next[1]);
        parameters.set("limit", wanted - this.hits.length);
        const told = await ask(`/api/search?${parameters}`, mine.signal);
        if (this.running !== mine) return;
        this.hits.push(...told.hits);
        Object.assign(this, {next: told.next, looked: told.looked, parts: told.parts});
        this.items.append(...told.hits.map(card));
        this.update();
      }
      problem(null);
    } catch (error) {
      problem(error);
    }
    if (this.running === mine) this.stop();
  }

  update() {
    const values = {found: this.hits.length, looked: this.looked, parts: this.parts};
    this.status.textContent = w(this.running ? "searching" : this.next ? "soFar" : "end", values);
    this.status.dataset.busy = String(Boolean(this.running));
    this.button.hidden = !this.next;
    this.button.textContent = w(this.running ? "stop" : "more");
    if (!this.next && !this.hits.length) this.status.textContent = w("none");
  }
}

/** The badges of a document's fate. */
export function badges({state, reasons, changed}) {
  if (state === "dropped") return reasons.map((reason) => el("span", {class: "badge dropped", text: reason}));
  return el("span", {class: `badge ${state}`, text: w(changed ? "changed" : state)});
}

function card(hit) {
  const head = el("div", {class: "hit-head"}, badges(hit), el("span", {class: "meta", text: `${hit.source} · ${hit.lang} · ${w("chars", {n: hit.chars.toLocaleString()})}`}), el("code", {text: hit.id.slice(0, 12)}));
  const text = el("span", {class: "excerpt"}, hit.before, hit.found ? el("mark", {text: hit.found}) : null, hit.after);
  return el("li", {}, el("a", {href: `#/doc/${hit.part}/${hit.line}`}, head, text));
}
