/** The field where messages are written, the send and stop button, and how full the context is. */

import {path} from "../conversation.js";
import {icon, replace} from "../dom.js";
import {number, t} from "../language.js";
import {preferences} from "../preferences.js";

const $ = (id) => document.getElementById(id);

/**
 * Whether a key press means "send". While an input method composes (Chinese, Japanese, Korean), Enter only takes the
 * candidate: `isComposing`, and key code 229 where a browser ends the composition before it tells of the key.
 */
export function sends(event) {
  if (event.key !== "Enter" || event.isComposing || event.keyCode === 229 || event.altKey) return false;
  const ctrl = event.ctrlKey || event.metaKey;
  return preferences.get("send") === "enter" ? !event.shiftKey : ctrl;
}

export class Composer {
  constructor(chat, thread) {
    this.chat = chat;
    this.thread = thread;
    this.draft = $("draft");
    this.drafts = new Map();
    this.shown = chat.open.id;
    $("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      if (chat.busy) chat.stop();
      else this.submit();
    });
    this.draft.addEventListener("input", () => this.resize());
    this.draft.addEventListener("keydown", (event) => this.key(event));
    for (const type of ["change", "start", "end"]) chat.addEventListener(type, () => this.update());
    chat.addEventListener("open", () => this.opened());
  }

  key(event) {
    if (sends(event)) {
      event.preventDefault();
      if (!this.chat.busy) this.submit();
    } else if (event.key === "ArrowUp" && this.draft.value === "" && !event.isComposing && !this.chat.busy) {
      if (this.thread.editLast()) event.preventDefault();
    }
  }

  submit() {
    const text = this.draft.value.toWellFormed?.() ?? this.draft.value;
    if (!text.trim() || !this.chat.open.model) return;
    this.draft.value = "";
    this.resize();
    this.thread.follows = true;
    this.chat.send(text);
  }

  /** What was begun in one conversation waits there while another one is open. */
  opened() {
    this.drafts.set(this.shown, this.draft.value);
    this.shown = this.chat.open.id;
    this.draft.value = this.drafts.get(this.shown) ?? "";
    this.drafts.delete(this.shown);
    this.resize();
    this.update();
  }

  /** As high as its text, up to the limit of the style sheet. */
  resize() {
    this.draft.style.height = "auto";
    this.draft.style.height = `${this.draft.scrollHeight + 2}px`;
    this.update();
  }

  update() {
    const {busy} = this.chat;
    const button = $("send");
    if (button.dataset.busy !== String(busy)) {
      button.dataset.busy = String(busy);
      replace(button, icon(busy ? "stop" : "send"));
    }
    const label = t(busy ? "stop" : "send");
    button.title = label;
    button.setAttribute("aria-label", label);
    button.disabled = !busy && (!this.draft.value.trim() || !this.chat.open.model);
    this.draft.placeholder = t("messageTo", {model: this.chat.open.model || "…"});
    $("hint").textContent = t(preferences.get("send") === "enter" ? "sendHintEnter" : "sendHintCtrl");
    this.showContext();
  }

  /** Tokens of the last answer and all before it, as the server counted them, of the model's context. */
  showContext() {
    const last = path(this.chat.open).findLast((node) => node.usage);
    const all = last && this.chat.context(last.model);
    const meter = $("context-meter");
    meter.hidden = !all;
    if (!all) {
      $("context-text").textContent = "";
      return;
    }
    const used = last.usage.prompt + last.usage.completion;
    const share = Math.round((100 * used) / all);
    meter.value = share;
    const text = t("contextOf", {used: number(used), all: number(all), share});
    meter.setAttribute("aria-label", text);
    $("context-text").textContent = text;
  }
}
