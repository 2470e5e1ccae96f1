/** The list of conversations: by age, searchable, with rename, export and delete. On a narrow screen a drawer. */

import {contains} from "../conversation.js";
import {el, iconButton, replace} from "../dom.js";
import {importFile, exportText, download} from "../transfer.js";
import {t} from "../language.js";
import {ask, askText} from "./ask.js";
import {notice} from "./notices.js";

const DAY_MS = 24 * 3600 * 1000;
const SEARCH_AFTER_MS = 150;
const $ = (id) => document.getElementById(id);

export class Sidebar {
  constructor(chat) {
    this.chat = chat;
    this.nav = $("conversations");
    this.found = null;
    $("search").addEventListener("input", () => this.searchSoon());
    $("import").addEventListener("click", () => $("file").click());
    $("file").addEventListener("change", () => this.import());
    $("export").addEventListener("click", () => this.exportAll());
    $("remove-all").addEventListener("click", () => this.removeAll());
    $("new-chat").addEventListener("click", () => this.startNew());
    $("drawer-open").addEventListener("click", () => this.drawer(true));
    $("drawer-close").addEventListener("click", () => this.drawer(false));
    $("shade").addEventListener("click", () => this.drawer(false));
    chat.addEventListener("list", () => this.draw());
    chat.addEventListener("open", () => this.draw());
  }

  startNew() {
    this.chat.startNew();
    this.drawer(false);
    $("draft").focus();
  }

  drawer(open) {
    if (document.body.classList.contains("drawer-open") === open) return;
    document.body.classList.toggle("drawer-open", open);
    $("shade").hidden = !open;
    $("drawer-open").setAttribute("aria-expanded", String(open));
    document.querySelector("main").inert = open;
    (open ? $("drawer-close") : $("drawer-open")).focus();
  }

  async draw() {
    const all = await this.chat.store.list();
    const state = JSON.stringify([all, this.chat.open.id, t("today"), this.found && [...this.found]]);
    if (state === this.state) return; // an answer that is being saved must not take the focus from the list
    this.state = state;
    const shown = this.found ? all.filter((one) => this.found.has(one.id)) : all;
    $("export").disabled = $("remove-all").disabled = !all.length;
    if (!shown.length) {
      const words = $("search").value.trim();
      replace(this.nav, el("p", {class: "empty-list", text: this.found ? t("noMatch", {words}) : t("noConversations")}));
      return;
    }
    const groups = new Map();
    for (const one of shown) {
      const age = ageOf(one.updated);
      groups.set(age, [...(groups.get(age) ?? []), this.item(one)]);
    }
    replace(this.nav, [...groups].map(([age, items]) => el("section", {}, el("h2", {text: t(age)}), el("ul", {}, items))));
  }

  item(one) {
    const title = one.title || t("untitled");
    const current = one.id === this.chat.open.id;
    const open = el("button", {type: "button", class: "open", "aria-current": current ? "true" : null, title, text: title, on: {click: () => this.show(one.id)}});
    const more = el("div", {class: "item-actions"},
      iconButton("edit", t("rename"), () => this.rename(one)),
      iconButton("download", t("exportOne"), () => this.exportOne(one.id, title)),
      iconButton("trash", t("remove"), () => this.remove(one.id, title)));
    return el("li", {class: current ? "current" : null}, open, more);
  }

  async show(id) {
    await this.chat.show(id);
    this.drawer(false);
  }

  async rename(one) {
    const title = await askText(t("rename"), t("renameHow"), one.title);
    if (title === null || !title.trim()) return;
    const conversation = one.id === this.chat.open.id ? this.chat.open : await this.chat.store.get(one.id);
    conversation.title = title.trim();
    conversation.named = true;
    await this.chat.save(conversation);
    this.chat.tell("renamed");
    this.focus();
  }

  async remove(id, title) {
    if (!(await ask(t("removeSure", {title}), t("remove")))) return;
    if (id === this.chat.open.id) {
      this.chat.stop();
      this.chat.startNew();
    }
    await this.chat.forget(id);
    this.focus();
  }

  /** The dialog is closed and the list is new: the focus goes to the open conversation in it. */
  async focus() {
    await this.draw();
    (this.nav.querySelector(".current .open") ?? $("new-chat")).focus();
  }

  async removeAll() {
    const {length} = await this.chat.store.list();
    if (!(await ask(t("removeAllSure", {n: length}), t("removeAll")))) return;
    this.chat.stop();
    this.chat.startNew();
    await this.chat.forget(null);
  }

  async exportOne(id, title) {
    const name = title.replace(/[^\p{L}\p{N} _-]+/gu, "").trim().slice(0, 60) || "conversation";
    download(`${name}.json`, exportText([await this.chat.store.get(id)]));
  }

  async exportAll() {
    const all = [];
    for await (const one of this.chat.store.each()) all.push(one);
    download(`luhuo-${new Date().toISOString().slice(0, 10)}.json`, exportText(all));
  }

  async import() {
    const [file] = $("file").files;
    $("file").value = "";
    if (!file) return;
    let conversations;
    try {
      conversations = await importFile(file);
    } catch (error) {
      notice(t(error.message.startsWith("import") ? error.message : "importBroken"));
      return;
    }
    for (const one of conversations) await this.chat.save(one);
    notice(t("imported", {n: conversations.length}));
  }

  searchSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.search(), SEARCH_AFTER_MS);
  }

  /** Titles and texts of all messages; a newer search ends an older one. */
  async search() {
    const words = $("search").value.trim();
    const turn = (this.turn = (this.turn ?? 0) + 1);
    const found = words ? new Set() : null;
    if (found) {
      for await (const one of this.chat.store.each()) {
        if (turn !== this.turn) return;
        if (contains(one, words)) found.add(one.id);
      }
    }
    this.found = found;
    await this.draw();
  }
}

function ageOf(time) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  if (time >= midnight) return "today";
  if (time >= midnight - DAY_MS) return "yesterday";
  return time >= midnight - 7 * DAY_MS ? "week" : "older";
}
