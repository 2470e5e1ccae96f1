/** One message: its text, its reasoning and tool calls, what was measured, and what can be done with it. */

import {el, iconButton, replace} from "../dom.js";
import {number, t} from "../language.js";
import {MarkdownView, copyText} from "../markdown/render.js";
import {parts} from "../reasoning.js";
import {speed} from "../stream.js";
import {problemText} from "./notices.js";
import {toolCalls} from "./tools.js";

const NEEDS_IDLE = {class: "icon-button needs-idle"};

export class MessageView {
  /** `actions`: {edit, again, select, vote, remove, toolResults, preferred …} of the page. */
  constructor(node, actions) {
    this.node = node;
    this.actions = actions;
    this.body = el("div", {class: "body"});
    this.foot = el("div", {class: "message-foot"});
    this.notes = el("div", {class: "notes"});
    this.head = el("div", {class: "author"});
    this.element = el("article", {class: `message ${node.role}`, data: {id: node.id}}, this.head, this.notes, this.body, this.foot);
    this.element.setAttribute("aria-label", this.author());
  }

  author() {
    const {node} = this;
    return node.role === "user" ? t("you") : node.role === "tool" ? t("toolResult", {name: node.name ?? ""}) : node.model || t("model");
  }

  /** Show the node as it is now; `place` is {index, count, versions} among its versions. */
  update(place, options = {}) {
    this.place = place ?? this.place;
    this.options = options;
    this.head.textContent = this.author();
    this.grow();
    replace(this.foot, this.node.state === "streaming" ? null : this.footer());
  }

  /** Show what has been added to an answer, and nothing else. */
  grow() {
    const {node} = this;
    this.element.classList.toggle("streaming", node.state === "streaming");
    if (node.role === "assistant") this.growAnswer();
    else if (!this.plain || this.plain.textContent !== node.content) {
      this.plain = el("div", {class: "plain", text: node.content});
      replace(this.body, this.plain);
    }
  }

  growAnswer() {
    const {node} = this;
    const {reasoning, answer, thinking} = parts(node);
    if (!this.markdown) {
      this.markdown = new MarkdownView();
      this.aside = el("div");
      this.calls = el("div");
      replace(this.body, this.aside, this.markdown.element, this.calls);
    }
    this.growReasoning(reasoning, thinking);
    this.markdown.update(answer);
    if (node.toolCalls) toolCalls(this.calls, node, this.options?.last === true, this.actions);
    const empty = node.state === "streaming" && !reasoning && !answer && !node.toolCalls;
    replace(this.notes, this.noteTexts(empty));
  }

  growReasoning(reasoning, thinking) {
    if (!reasoning && !thinking) return;
    if (!this.thought) {
      this.thought = el("div", {class: "thought-text"});
      this.thoughtTitle = el("span");
      replace(this.aside, el("details", {class: "thought"}, el("summary", {}, this.thoughtTitle), this.thought));
    }
    this.thoughtTitle.textContent = t(thinking ? "thinking" : "thought");
    this.thoughtTitle.classList.toggle("pulse", thinking);
    if (this.thought.textContent !== reasoning) this.thought.textContent = reasoning;
  }

  noteTexts(empty) {
    const {node} = this;
    const notes = [];
    if (node.trimmed) notes.push(el("p", {class: "note trimmed", text: t("trimmedOf", {n: number(node.trimmed)})}));
    if (node.waiting) notes.push(el("p", {class: "note busy", role: "status", text: t("errorBusy", {n: node.waiting})}));
    else if (empty) notes.push(el("p", {class: "note pulse", text: t("waiting")}));
    return notes;
  }

  footer() {
    const {node, actions} = this;
    const parts = [this.ending()];
    const row = el("div", {class: "actions"});
    if (this.place?.count > 1) row.append(this.switcher());
    const copy = iconButton("copy", t("copy"), () => copyText(this.copied(), copy));
    if (node.content) row.append(copy);
    if (node.role === "user") row.append(iconButton("edit", t("edit"), () => this.startEditing(), NEEDS_IDLE));
    if (node.role === "assistant") {
      row.append(iconButton("again", t("again"), () => actions.again(node), NEEDS_IDLE));
      if (this.options?.feedback && !node.error && node.content) row.append(...this.thumbs());
    }
    row.append(iconButton("trash", t("removeMessage"), () => actions.remove(node), NEEDS_IDLE));
    if (node.usage) row.append(this.measures());
    parts.push(row);
    return parts;
  }

  copied() {
    return parts(this.node).answer;
  }

  /** Why an answer ended other than by its own end. */
  ending() {
    const {node, actions} = this;
    if (node.error) {
      const retry = el("button", {type: "button", class: "quiet", text: t("retry"), on: {click: () => actions.again(node)}});
      return el("div", {class: "problem", role: "alert"}, problemText(node.error), retry);
    }
    const key = {length: "finishLength", stopped: "finishStopped", interrupted: "finishInterrupted", content_filter: "finishFilter"}[node.finish];
    if (!key) return null;
    const goOn = node.finish === "length" && this.options?.last ? el("button", {type: "button", class: "quiet", text: t("goOn"), on: {click: () => actions.goOn(node)}}) : null;
    return el("p", {class: "note ending"}, t(key), goOn);
  }

  switcher() {
    const {index, count, versions} = this.place;
    const go = (step, label) => () => this.actions.select(versions[index + step], t(label));
    const before = iconButton("left", t("previous"), go(-1, "previous"), {disabled: index === 0});
    const after = iconButton("right", t("following"), go(1, "following"), {disabled: index === count - 1});
    const place = el("span", {class: "place", text: `${index + 1}/${count}`, "aria-label": t("versionOf", {i: index + 1, n: count})});
    return el("span", {class: "switcher needs-idle"}, before, place, after);
  }

  thumbs() {
    const {node, actions} = this;
    const button = (name, label, vote) => iconButton(name, t(label), () => actions.vote(node, vote), {"aria-pressed": String(node.vote === vote)});
    return [button("up", "good", 1), button("down", "bad", -1)];
  }

  measures() {
    const {usage, timing} = this.node;
    const rate = speed(this.node);
    const told = [t("tokensOf", {n: number(usage.completion)})];
    if (rate) told.push(t("speedOf", {n: number(rate, rate < 10 ? 1 : 0)}));
    if (timing) told.push(t("firstOf", {n: number(timing.first, 2)}));
    return el("span", {class: "measures", text: told.join(" · ")});
  }

  /** Turn a user's message into a field; sending it makes a new version. */
  startEditing() {
    const field = el("textarea", {class: "edit-field", "aria-label": t("edit"), rows: String(Math.min(12, this.node.content.split("\n").length + 1))});
    field.value = this.node.content;
    const cancel = () => this.stopEditing();
    const send = () => {
      if (!field.value.trim()) return;
      this.stopEditing();
      this.actions.edit(this.node, field.value);
    };
    const row = el("div", {class: "edit-row"},
      el("button", {type: "button", text: t("cancel"), on: {click: cancel}}), el("button", {type: "button", class: "primary", text: t("editSend"), on: {click: send}}));
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !event.isComposing) {
        event.stopPropagation();
        cancel();
      } else if (this.actions.sends(event)) {
        event.preventDefault();
        send();
      }
    });
    this.element.classList.add("editing");
    replace(this.body, field, row);
    replace(this.foot);
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }

  stopEditing() {
    this.element.classList.remove("editing");
    this.plain = null;
    this.update(this.place, this.options);
    this.actions.focusDraft();
  }
}
