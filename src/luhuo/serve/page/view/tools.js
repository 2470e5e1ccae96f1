/** A model's calls of tools: name and arguments, and a field for what the tool returned. */

import {el, icon, replace} from "../dom.js";
import {t} from "../language.js";
import {highlight} from "../markdown/highlight.js";

/** Fill `box` with the calls of a node; the last message of a conversation gets fields for the results. */
export function toolCalls(box, node, last, actions) {
  const waits = last && node.state !== "streaming" && node.finish !== "stopped" && !node.error;
  const state = JSON.stringify([node.toolCalls, waits]);
  if (box.dataset.state === state) return; // fields that are being filled in stay
  box.dataset.state = state;
  const fields = [];
  const calls = node.toolCalls.map((call) => {
    const field = waits ? el("textarea", {rows: "2", "aria-label": t("toolResult", {name: call.name})}) : null;
    fields.push(field);
    const title = el("div", {class: "tool-name"}, icon("tool"), t("toolCall", {name: call.name}));
    return el("div", {class: "tool-call"}, title, el("pre", {tabindex: "0"}, el("code", {}, highlight(pretty(call.arguments), "json"))), field);
  });
  const send = el("button", {type: "button", class: "primary", text: t("toolSend"), on: {click: () => actions.toolResults(node, fields.map((field) => field.value))}});
  replace(box, calls, waits ? el("div", {class: "tool-ask"}, el("span", {text: t("toolAsk")}), send) : null);
}

/** Arguments with indents where they are JSON; while they stream they are not yet. */
function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
