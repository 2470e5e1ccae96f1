/** The arena: a question, two answers without names as they are written, a vote, and then the names. */

import {el, replace} from "/chat/dom.js";
import {MarkdownView} from "/chat/markdown/render.js";
import {events} from "/chat/sse.js";
import {keysDialog, boardDialog} from "/page/board.js";
import {$, ask, askName, call, markdown, problem, remembered, switches} from "/page/common.js";
import {w} from "/page/words.js";

const SIDES = ["a", "b"];
const VOTES = [["a", "1"], ["b", "2"], ["tie", "0"], ["bad", "B"]];
const state = {name: remembered(), title: "", most: 1, battle: null, turns: [], busy: false, whole: false, began: 0, models: null, vote: null, control: null};
const letter = (side) => side.toUpperCase();
const says = (vote) => (SIDES.includes(vote) ? w("better", {side: letter(vote)}) : w(vote));

function phase() {
  if (state.models) return "over";
  if (state.busy) return "writing";
  if (!state.turns.length) return "ask";
  return state.whole ? "choose" : "failed";
}

/** Everything but the answers that are just being written. */
function draw() {
  document.title = w("title");
  $("title").textContent = state.title || w("title");
  for (const id of ["fresh", "board", "keys"]) $(id).textContent = w(id);
  $("who").textContent = state.name ? w("as", {name: state.name}) : "";
  $("how").textContent = w(phase());
  replace($("turns"), state.turns.map(turn));
  controls();
}

function controls() {
  const at = phase();
  $("how").textContent = w(at);
  $("draft-label").textContent = $("draft").placeholder = w("draft");
  $("send").textContent = w(state.busy ? "stop" : "send");
  $("composer").hidden = at === "over" || state.turns.length >= state.most && at !== "failed" && !state.busy;
  $("votes").setAttribute("aria-label", w("votes"));
  const able = at === "choose";
  const button = ([vote, key]) => el("button", {type: "button", disabled: !able, class: SIDES.includes(vote) ? "primary" : null, data: {vote}, on: {click: () => cast(vote)}}, el("span", {text: says(vote)}), el("kbd", {text: key}));
  if (at === "over") replace($("votes"), el("p", {text: w("voted", {vote: says(state.vote), ...state.models})}), el("button", {type: "button", class: "primary", id: "next", text: w("fresh"), on: {click: fresh}}));
  else if (at === "failed") replace($("votes"), el("button", {type: "button", id: "again", text: w("again"), on: {click: () => send(state.turns.at(-1).prompt)}}));
  else replace($("votes"), at === "ask" ? null : VOTES.map(button));
}

function turn(one) {
  const answers = SIDES.map((side) => {
    const name = w("side", {side: letter(side)});
    const head = el("h2", {}, el("span", {text: name}), state.models ? el("span", {class: "model", text: state.models[side]}) : null);
    one.views[side] = new MarkdownView();
    one.views[side].update(one.texts[side]);
    one.boxes[side] = el("article", {class: "answer", tabindex: "0", "aria-label": name, data: {side}}, head, one.views[side].element, one.errors[side] ? el("p", {class: "error", text: one.errors[side]}) : null);
    return one.boxes[side];
  });
  const asked = el("article", {class: "turn user"}, el("h2", {text: w("you")}), markdown(one.prompt));
  return el("section", {}, asked, el("div", {class: "answers"}, answers));
}

async function send(prompt) {
  if (state.busy || state.models) return;
  if (state.turns.length && !state.whole) state.turns.pop(); // asked again
  const one = {prompt, texts: {a: "", b: ""}, errors: {a: "", b: ""}, views: {}, boxes: {}};
  Object.assign(state, {busy: true, whole: false, control: new AbortController()});
  state.turns.push(one);
  replace($("notices"));
  draw();
  window.scrollTo(0, document.body.scrollHeight);
  let done = false;
  try {
    state.battle ??= (await ask("/api/battles", {judge: state.name})).battle;
    const response = await call(`/api/battles/${state.battle}/turns`, {prompt}, state.control.signal);
    for await (const text of events(response.body)) done = heard(one, JSON.parse(text)) || done;
    if (!done) throw new Error(w("cut"));
  } catch (error) {
    if (error.name !== "AbortError") problem(error);
  } finally {
    state.busy = false;
    state.began ||= performance.now();
    draw();
    $("announce").textContent = w(state.whole ? "ready" : "failed");
  }
}

/** One event of the stream; whether it was the last. */
function heard(one, {side, text, end, error, done, whole}) {
  if (text) {
    one.texts[side] += text;
    one.views[side].update(one.texts[side]);
  }
  if (end && error) {
    one.errors[side] = error;
    one.boxes[side].append(el("p", {class: "error", text: error}));
  }
  if (done) state.whole = whole;
  return Boolean(done);
}

async function cast(vote) {
  if (phase() !== "choose" || state.casting) return;
  state.casting = true;
  try {
    const {models} = await ask(`/api/battles/${state.battle}/vote`, {winner: vote, seconds: (performance.now() - state.began) / 1000});
    Object.assign(state, {models, vote});
    replace($("notices"));
    draw();
    $("announce").textContent = w("voted", {vote: says(vote), ...models});
    $("next").focus();
  } catch (error) {
    problem(error);
  } finally {
    state.casting = false;
  }
}

function fresh() {
  state.control?.abort();
  Object.assign(state, {battle: null, turns: [], whole: false, began: 0, models: null, vote: null});
  replace($("notices"));
  draw();
  $("draft").focus();
}

async function named() {
  state.name = await askName(state.name);
  draw();
  $("draft").focus();
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.closest("textarea, input, select")) return;
  const key = event.key.toUpperCase();
  const vote = VOTES.find(([, shown]) => shown === key);
  if (vote && phase() === "choose") cast(vote[0]);
  else if (key === "N" && !state.busy) fresh();
  else return;
  event.preventDefault();
}

function submit() {
  if (state.busy) return state.control.abort();
  const text = $("draft").value.trim();
  if (!text || !state.name) return undefined;
  $("draft").value = "";
  return send(text);
}

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
$("draft").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (!state.busy) submit();
});
$("who").addEventListener("click", named);
$("fresh").addEventListener("click", fresh);
$("board").addEventListener("click", boardDialog);
$("keys").addEventListener("click", keysDialog);
document.addEventListener("keydown", pressed);

switches(draw);
draw();
document.documentElement.dataset.ready = "";
try {
  const {title, turns} = await ask("/api/arena");
  Object.assign(state, {title, most: turns});
} catch (error) {
  problem(error);
}
draw();
if (state.name) $("draft").focus();
else await named();
