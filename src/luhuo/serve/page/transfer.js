/** Export and import: one JSON file of conversations, read back with every field checked. */

import {newId} from "./dom.js";
import {ROOT, SAMPLING, isToolList, titleOf} from "./conversation.js";

const FORMAT = "luhuo-chat";
const VERSION = 1;
const LARGEST = 256 * 1024 * 1024;
const ROLES = ["user", "assistant", "tool"];
const FINISHES = ["stop", "length", "tool_calls", "content_filter", "stopped", "interrupted"];

export function exportText(conversations) {
  return JSON.stringify({format: FORMAT, version: VERSION, exported: new Date().toISOString(), conversations}, null, 1);
}

/** Offer a text as a file. */
export function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], {type: "application/json"}));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** The conversations of an exported file, with fresh names. Throws an Error whose message is a key of words.js. */
export async function importFile(file) {
  if (file.size > LARGEST) throw new Error("importTooLarge");
  let told;
  try {
    told = JSON.parse(await file.text());
  } catch {
    throw new Error("importNotJson");
  }
  if (told?.format !== FORMAT || !Array.isArray(told.conversations)) throw new Error("importNotOurs");
  if (told.version > VERSION) throw new Error("importNewer");
  return told.conversations.map(readConversation);
}

const text = (value, other = "") => (typeof value === "string" ? value : other);
const number = (value, other) => (Number.isFinite(value) ? value : other);

function readConversation(told) {
  if (typeof told !== "object" || told === null) throw new Error("importBroken");
  const now = Date.now();
  const nodes = readNodes(told.nodes);
  const chosen = {};
  for (const [parent, child] of Object.entries(told.chosen ?? {})) {
    if (Object.hasOwn(nodes, child) && nodes[child].parent === parent) chosen[parent] = child;
  }
  const sampling = Object.entries(told.sampling ?? {}).filter(([name, value]) => Object.hasOwn(SAMPLING, name) && Number.isFinite(value));
  return {
    id: newId(), title: text(told.title) || titleOf(text(Object.values(nodes)[0]?.content)), named: told.named === true,
    created: number(told.created, now), updated: number(told.updated, now),
    model: text(told.model), compare: text(told.compare), system: text(told.system), tools: isToolList(text(told.tools)) ? text(told.tools) : "",
    sampling: Object.fromEntries(sampling),
    stop: Array.isArray(told.stop) ? told.stop.filter((one) => typeof one === "string") : [],
    nodes, chosen,
  };
}

/** Nodes by name, without those whose parents are missing or lead round in a circle. */
function readNodes(told) {
  const entries = Object.entries(told ?? {}).filter(([id, node]) => id !== ROOT && id !== "__proto__" && ROLES.includes(node?.role));
  const waiting = new Map();
  for (const [id, node] of entries) {
    const parent = text(node.parent);
    waiting.set(parent, [...(waiting.get(parent) ?? []), [id, node]]);
  }
  const nodes = {};
  const parents = [ROOT];
  while (parents.length) {
    for (const [id, node] of waiting.get(parents.pop()) ?? []) {
      nodes[id] = readNode(id, node);
      parents.push(id);
    }
  }
  if (Object.keys(nodes).length === 0 && entries.length) throw new Error("importBroken");
  return nodes;
}

function readNode(id, told) {
  const node = {id, parent: text(told.parent), role: told.role, content: text(told.content), created: number(told.created, 0)};
  for (const name of ["reasoning", "model", "pair", "callId"]) if (text(told[name])) node[name] = told[name];
  if (FINISHES.includes(told.finish)) node.finish = told.finish;
  if (told.vote === 1 || told.vote === -1) node.vote = told.vote;
  if (told.preferred === true) node.preferred = true;
  if (Number.isFinite(told.trimmed)) node.trimmed = told.trimmed;
  for (const name of ["usage", "timing"]) {
    const kept = Object.entries(told[name] ?? {}).filter(([, value]) => Number.isFinite(value));
    if (kept.length) node[name] = Object.fromEntries(kept);
  }
  if (Array.isArray(told.toolCalls)) {
    node.toolCalls = told.toolCalls.map((call) => ({id: text(call?.id), name: text(call?.name), arguments: text(call?.arguments)}));
  }
  return node;
}
