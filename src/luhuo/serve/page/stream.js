/** One answer while it is written: request, growth, speed, waiting for a busy server, stopping. */

import * as api from "./api.js";
import {trim} from "./trim.js";

const TRIES = 4;

export class Stream {
  /** `grew()` is called whenever `node` changed. `context` is the model's length in tokens, null if unknown. */
  constructor(conversation, node, context, grew) {
    this.conversation = conversation;
    this.node = node;
    this.context = context;
    this.grew = grew;
    this.control = new AbortController();
  }

  stop() {
    this.control.abort();
  }

  /** Write the answer to `messages` into the node. Never throws: what goes wrong is `node.error`. */
  async run(messages) {
    const {node} = this;
    try {
      const fitting = await this.fit(messages);
      node.trimmed = fitting.dropped;
      for (let attempt = 1; ; attempt++) {
        try {
          await this.read(fitting.messages);
          return;
        } catch (error) {
          if (!(error instanceof api.ApiError) || error.kind !== "busy" || attempt === TRIES) throw error;
          await this.wait(error.retryAfter || 2 ** attempt);
        }
      }
    } catch (error) {
      if (error.name === "AbortError") node.finish = "stopped";
      else if (error instanceof api.ApiError) node.error = {kind: error.kind, message: error.message, status: error.status};
      else throw error;
    } finally {
      delete node.waiting;
    }
  }

  /** The history that fits. A server without /tokenize is asked with all of it, and says itself what is too long. */
  async fit(messages) {
    const {model} = this.node;
    try {
      const tools = this.tools();
      const count = (some) => api.countTokens(model, some, tools, this.control.signal);
      return await trim(messages, tools, this.context, this.conversation.sampling.max_tokens, count);
    } catch (error) {
      if (!(error instanceof api.ApiError) || !["request", "model", "busy"].includes(error.kind)) throw error;
      return {messages, dropped: 0};
    }
  }

  async wait(seconds) {
    for (let left = Math.ceil(seconds); left > 0; left--) {
      this.node.waiting = left;
      this.grew();
      await pause(1000, this.control.signal);
    }
    delete this.node.waiting;
  }

  tools() {
    const {tools} = this.conversation;
    return tools.trim() ? JSON.parse(tools) : null;
  }

  request(messages) {
    const {sampling, stop} = this.conversation;
    const tools = this.tools();
    const more = {...sampling, ...(stop.length ? {stop} : {}), ...(tools ? {tools} : {})};
    return {model: this.node.model, messages, ...more};
  }

  async read(messages) {
    const {node} = this;
    const start = performance.now();
    let [first, last] = [0, 0];
    for await (const chunk of api.chat(this.request(messages), this.control.signal)) {
      const choice = chunk.choices?.[0];
      if (choice) {
        last = performance.now();
        if (this.add(choice.delta ?? {})) first ||= last;
        if (choice.finish_reason) node.finish = choice.finish_reason;
      }
      if (chunk.usage) node.usage = {prompt: chunk.usage.prompt_tokens, completion: chunk.usage.completion_tokens};
      if (first) node.timing = {first: (first - start) / 1000, writing: (last - first) / 1000};
      this.grew();
    }
  }

  /** Put a delta into the node; whether it carried anything. */
  add(delta) {
    const {node} = this;
    const reasoning = delta.reasoning_content ?? delta.reasoning;
    if (typeof reasoning === "string" && reasoning) node.reasoning = (node.reasoning ?? "") + reasoning;
    if (typeof delta.content === "string") node.content += delta.content;
    for (const piece of delta.tool_calls ?? []) {
      const place = Number.isInteger(piece.index) && piece.index >= 0 && piece.index < 128 ? piece.index : 0;
      node.toolCalls ??= [];
      while (node.toolCalls.length <= place) node.toolCalls.push({id: "", name: "", arguments: ""});
      const call = node.toolCalls[place];
      call.id ||= String(piece.id ?? "");
      call.name += piece.function?.name ?? "";
      call.arguments += piece.function?.arguments ?? "";
    }
    return Boolean(reasoning || delta.content || delta.tool_calls?.length);
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    }, {once: true});
  });
}

/** Tokens per second of an answer: those behind the first one over the time they took; null if too few. */
export function speed(node) {
  if (!(node.usage?.completion > 2) || !(node.timing?.writing > 0)) return null;
  return (node.usage.completion - 1) / node.timing.writing;
}
