/** The choice of the model, and of a second one to stand beside it. */

import {el, replace} from "../dom.js";
import {t} from "../language.js";
import {preferences} from "../preferences.js";

const $ = (id) => document.getElementById(id);

export class ModelChoice {
  constructor(chat) {
    this.chat = chat;
    $("model").addEventListener("change", () => this.choose($("model").value));
    $("compare").addEventListener("change", () => this.compare($("compare").value));
    $("compare-toggle").addEventListener("click", () => this.compare(chat.open.compare ? "" : this.other()));
    chat.addEventListener("open", () => this.fill());
  }

  /** What to compare with: of an adapter the model it is on, else another one; alone, the same one again. */
  other() {
    const own = this.chat.models.find((one) => one.id === this.chat.open.model);
    const others = this.chat.models.map((one) => one.id).filter((id) => id !== this.chat.open.model);
    return others.find((id) => id === own?.parent) ?? others[0] ?? this.chat.open.model;
  }

  choose(id) {
    this.chat.open.model = id;
    preferences.set("model", id);
    this.changed();
  }

  compare(id) {
    this.chat.open.compare = id;
    this.changed();
  }

  changed() {
    this.fill();
    this.chat.tell("change");
    if (Object.keys(this.chat.open.nodes).length) this.chat.save();
  }

  fill() {
    const {open, models} = this.chat;
    const ids = models.map((one) => one.id);
    // A conversation may name a model that the server no longer has; the first one takes its place.
    if (ids.length && !ids.includes(open.model)) [open.model] = ids;
    if (ids.length && open.compare && !ids.includes(open.compare)) open.compare = "";
    const name = (id) => [id, models.find((one) => one.id === id)?.parent].filter(Boolean).join(" · ");
    const options = (chosen) => (ids.length ? ids : [open.model].filter(Boolean)).map((id) => el("option", {value: id, text: name(id), selected: id === chosen}));
    replace($("model"), ids.length || open.model ? options(open.model) : el("option", {value: "", text: t("noModels")}));
    replace($("compare"), options(open.compare));
    $("compare-box").hidden = !open.compare;
    $("compare-toggle").setAttribute("aria-pressed", String(Boolean(open.compare)));
    $("compare-toggle").disabled = !ids.length;
  }
}
