/** A conversation as a tree: editing or asking again makes a sibling, and nothing that was written is lost. */

import {newId} from "./dom.js";
import {parts} from "./reasoning.js";

export const ROOT = "root";

/** Settings that belong to a conversation; an empty one is the server's own default and is not sent. */
export const SAMPLING = {
  temperature: {min: 0, max: 2, step: 0.05},
  top_p: {min: 0.01, max: 1, step: 0.01},
  top_k: {min: 0, max: 100000, step: 1, whole: true},
  min_p: {min: 0, max: 1, step: 0.01},
  repetition_penalty: {min: 0.01, max: 2, step: 0.01},
  max_tokens: {min: 1, max: 1000000, step: 1, whole: true},
  seed: {min: 0, max: 2147483647, step: 1, whole: true},
};

export function newConversation(model, from = null) {
  const now = Date.now();
  return {
    id: newId(), title: "", named: false, created: now, updated: now, model, compare: "",
    system: from?.system ?? "", sampling: {...from?.sampling}, stop: [...(from?.stop ?? [])], tools: from?.tools ?? "",
    nodes: {}, chosen: {},
  };
}

/** Add a message below `parent` and make it the one that is shown. Returns the node. */
export function addNode(conversation, parent, role, content, more = {}) {
  const node = {id: newId(), parent, role, content, created: Date.now(), ...more};
  conversation.nodes[node.id] = node;
  conversation.chosen[parent] = node.id;
  conversation.updated = node.created;
  if (!conversation.named && role === "user" && parent === ROOT) conversation.title = titleOf(content);
  return node;
}

export function titleOf(text) {
  const line = text.trim().split("\n", 1)[0].replace(/\s+/g, " ");
  const letters = [...line];
  return letters.length > 48 ? `${letters.slice(0, 47).join("")}…` : line;
}

/** The messages below `parent`, in the order they were made. */
export function children(conversation, parent) {
  return Object.values(conversation.nodes).filter((node) => node.parent === parent).sort((a, b) => a.created - b.created);
}

/** What is shown: from the first message along the chosen ones to the last. */
export function path(conversation) {
  const shown = [];
  let at = ROOT;
  while (conversation.chosen[at] && conversation.nodes[conversation.chosen[at]]) {
    at = conversation.chosen[at];
    shown.push(conversation.nodes[at]);
  }
  return shown;
}

/** The messages from the first to this one. */
export function pathTo(conversation, id) {
  const found = [];
  for (let node = conversation.nodes[id]; node; node = conversation.nodes[node.parent]) found.unshift(node);
  return found;
}

/** The versions of a message; two answers that stand side by side count as one. */
export function versions(conversation, node) {
  const seen = new Set();
  return children(conversation, node.parent).filter((one) => !one.pair || (!seen.has(one.pair) && seen.add(one.pair)));
}

/** The answers that stand side by side with this one, itself included. */
export function pairOf(conversation, node) {
  return node.pair ? children(conversation, node.parent).filter((one) => one.pair === node.pair) : [node];
}

export function choose(conversation, node) {
  conversation.chosen[node.parent] = node.id;
}

/** Take a message and everything below it out; the version before it is shown instead. */
export function removeNode(conversation, node) {
  for (const child of children(conversation, node.id)) removeNode(conversation, child);
  delete conversation.nodes[node.id];
  delete conversation.chosen[node.id];
  if (conversation.chosen[node.parent] === node.id) {
    const left = children(conversation, node.parent);
    if (left.length) conversation.chosen[node.parent] = left.at(-1).id;
    else delete conversation.chosen[node.parent];
  }
}

/** Messages as the API takes them. A model's reasoning is not sent back: templates leave it out of earlier turns. */
export function toMessages(conversation, nodes) {
  const messages = conversation.system.trim() ? [{role: "system", content: conversation.system}] : [];
  for (const node of nodes) {
    const answer = parts(node).answer;
    if (node.role === "tool") messages.push({role: "tool", tool_call_id: node.callId, content: node.content});
    else if (node.role === "assistant" && node.toolCalls?.length) messages.push({role: "assistant", content: answer, tool_calls: node.toolCalls.map(toCall)});
    else if (node.role !== "assistant" || answer !== "") messages.push({role: node.role, content: answer});
  }
  return messages;
}

function toCall(call) {
  return {id: call.id, type: "function", function: {name: call.name, arguments: call.arguments}};
}

/** Whether a text is empty or OpenAI's list of functions, which a request can carry. */
export function isToolList(text) {
  if (!text.trim()) return true;
  try {
    const list = JSON.parse(text);
    return Array.isArray(list) && list.every((one) => one?.type === "function" && typeof one.function?.name === "string");
  } catch {
    return false;
  }
}

/** Whether any message or the title contains the words, whatever their case. */
export function contains(conversation, words) {
  const wanted = words.toLocaleLowerCase();
  if (conversation.title.toLocaleLowerCase().includes(wanted)) return true;
  return Object.values(conversation.nodes).some((node) => node.content.toLocaleLowerCase().includes(wanted));
}
