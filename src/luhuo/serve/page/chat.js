/** What happens: sending, streaming, stopping, branching, voting. It draws nothing; views listen to its events. */

import * as api from "./api.js";
import {addNode, choose, newConversation, pairOf, path, pathTo, removeNode, toMessages} from "./conversation.js";
import {newId} from "./dom.js";
import {parts} from "./reasoning.js";
import {isFull} from "./store.js";
import {Stream} from "./stream.js";

const SAVE_EVERY_MS = 2000;

/**
 * Events (CustomEvent, `detail`): "open" (another conversation is shown), "change" (its messages changed),
 * "start", "grow", "end" (node; an answer begins, got longer, is complete), "list" (the list changed), "problem" (key of words.js),
 * "key" (an API key is needed).
 */
export class Chat extends EventTarget {
  constructor(store) {
    super();
    this.store = store;
    this.models = [];
    this.config = {feedback: false, version: ""};
    this.running = new Map();
    this.forgotten = new Set();
    this.open = newConversation("");
    store.watch((id) => this.changedElsewhere(id));
  }

  tell(type, detail = null) {
    this.dispatchEvent(new CustomEvent(type, {detail}));
  }

  context(model) {
    return this.models.find((one) => one.id === model)?.context ?? null;
  }

  /** Whether an answer of the open conversation is being written. */
  get busy() {
    return [...this.running.values()].some((stream) => stream.conversation.id === this.open.id);
  }

  startNew() {
    this.open = newConversation(this.open.model, this.open);
    this.open.compare = "";
    this.tell("open");
  }

  async show(id) {
    const writing = [...this.running.values()].find((stream) => stream.conversation.id === id);
    const found = writing?.conversation ?? (await this.store.get(id));
    if (!found) return;
    if (!writing) mend(found);
    this.open = found;
    this.tell("open");
  }

  async changedElsewhere(id) {
    if (id === this.open.id && !this.busy) {
      const fresh = await this.store.get(id);
      if (fresh) {
        this.open = fresh;
        this.tell("change");
      }
    }
    this.tell("list");
  }

  async save(conversation = this.open) {
    if (this.forgotten.has(conversation.id)) return; // its last answer was still being written when it was deleted
    try {
      await this.store.put(conversation);
    } catch (error) {
      this.tell("problem", isFull(error) ? "storageFull" : "storageNone");
    }
    this.tell("list");
  }

  /** Delete a conversation, or all of them. */
  async forget(id) {
    for (const {conversation} of this.running.values()) if (id === null || conversation.id === id) this.forgotten.add(conversation.id);
    await (id === null ? this.store.clear() : this.store.remove(id));
    this.tell("list");
  }

  /** Send a message below the last one shown, or below `parent` (a message that was edited). */
  async send(text, parent = path(this.open).at(-1)?.id ?? "root") {
    const node = addNode(this.open, parent, "user", text);
    await this.answer(node);
  }

  /** Answers to a user's message or to the results of tools: one, or two side by side. */
  async answer(node, model = "") {
    const conversation = this.open;
    const wanted = model ? [model] : [conversation.model, conversation.compare].filter(Boolean);
    const pair = wanted.length > 1 ? {pair: newId()} : {};
    const answers = wanted.map((name) => addNode(conversation, node.id, "assistant", "", {model: name, state: "streaming", ...pair}));
    if (answers.length) choose(conversation, answers[0]);
    this.tell("change");
    await Promise.all([this.save(conversation), ...answers.map((one) => this.run(conversation, one))]);
  }

  async run(conversation, node) {
    const stream = new Stream(conversation, node, this.context(node.model), () => this.tell("grow", node));
    this.running.set(node.id, stream);
    this.tell("start", node);
    const saving = setInterval(() => this.save(conversation), SAVE_EVERY_MS);
    try {
      await stream.run(messagesFor(conversation, node));
    } finally {
      clearInterval(saving);
      this.running.delete(node.id);
      delete node.state;
      await this.save(conversation);
      this.tell("end", node);
      if (node.error?.kind === "key") this.tell("key", node);
    }
  }

  stop() {
    for (const stream of this.running.values()) if (stream.conversation.id === this.open.id) stream.stop();
  }

  /** Another answer beside this one; what stood there stays as a version. */
  async again(node) {
    const above = this.open.nodes[node.parent];
    if (!above) return; // another conversation has been opened in the meantime
    for (const one of pairOf(this.open, node)) if (one.error && !one.content) removeNode(this.open, one);
    await this.answer(above);
  }

  async edit(node, text) {
    await this.send(text, node.parent);
  }

  async toolResults(node, results) {
    let parent = node.id;
    let last = node;
    for (const [place, call] of node.toolCalls.entries()) {
      last = addNode(this.open, parent, "tool", results[place], {callId: call.id, name: call.name});
      parent = last.id;
    }
    await this.answer(last, node.pair ? node.model : "");
  }

  async select(node) {
    choose(this.open, node);
    this.tell("change");
    await this.save();
  }

  async removeFrom(node) {
    removeNode(this.open, node);
    this.tell("change");
    await this.save();
  }

  /** Thumbs: an unpaired preference in TRL's vocabulary. Throws `ApiError`. */
  async vote(node, vote) {
    const value = node.vote === vote ? 0 : vote;
    if (value) await api.sendFeedback({prompt: promptOf(this.open, node), completion: answerOf(node), label: value > 0, model: node.model});
    node.vote = value;
    this.tell("change");
    await this.save();
  }

  /** A choice side by side: a paired preference. The conversation goes on from the better answer. */
  async prefer(node) {
    const other = pairOf(this.open, node).find((one) => one !== node);
    await this.select(node);
    if (this.config.feedback) {
      await api.sendFeedback({
        prompt: promptOf(this.open, node), chosen: answerOf(node), rejected: answerOf(other),
        chosen_model: node.model, rejected_model: other.model,
      });
    }
    node.preferred = true;
    delete other.preferred;
    this.tell("change");
    await this.save();
  }
}

/** The messages before an answer, as the API takes them. */
export function messagesFor(conversation, node) {
  return toMessages(conversation, pathTo(conversation, node.id).slice(0, -1));
}

/** The same as preference data: roles and texts. */
function promptOf(conversation, node) {
  return messagesFor(conversation, node).map(({role, content}) => ({role, content}));
}

function answerOf(node) {
  return [{role: "assistant", content: parts(node).answer}];
}

/** An answer that was being written when the page was closed is no longer written by anyone. */
function mend(conversation) {
  for (const node of Object.values(conversation.nodes)) {
    if (node.state !== "streaming") continue;
    delete node.state;
    node.finish = "interrupted";
  }
}
