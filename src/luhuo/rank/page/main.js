/** The ranking page: shows an item, takes a judgement, goes on. What is not saved yet is only the item in sight. */

import {el, replace} from "/chat/dom.js";
import {MarkdownView} from "/chat/markdown/render.js";
import {applyPreferences, language, preferences} from "/chat/preferences.js";
import {dialog} from "/chat/view/ask.js";
import {ask, problem} from "/page/server.js";
import {Board} from "/page/board.js";
import {keysDialog, overviewDialog} from "/page/dialogs.js";
import {w} from "/page/words.js";

const NAME = "luhuo-annotator";
const $ = (id) => document.getElementById(id);
const state = {name: remembered(), item: null, board: null, began: 0, busy: false, title: "", passed: []};

function remembered() {
  try {
    return localStorage.getItem(NAME) ?? "";
  } catch {
    return ""; // a browser may forbid storage: the name is asked for each time
  }
}

function remember(name) {
  state.name = name;
  try {
    localStorage.setItem(NAME, name);
  } catch {
    /* it holds until the page is closed */
  }
}

const letter = (place) => String.fromCharCode(65 + place);
const pairwise = () => state.item.answers.length === 2;

function markdown(text) {
  const view = new MarkdownView();
  view.update(text);
  return view.element;
}

function draw() {
  document.title = w("title");
  $("title").textContent = state.title || w("title");
  for (const id of ["back", "overview", "keys"]) $(id).textContent = w(id);
  $("language").textContent = w("other");
  $("who").textContent = state.name ? w("as", {name: state.name}) : "";
  $("who").title = w("change");
  $("comment-label").textContent = w("comment");
  if (state.item) drawItem();
}

function drawItem() {
  const {item} = state;
  $("bar").max = item.total || 1;
  $("bar").value = item.done;
  $("count").textContent = w("count", item);
  const finished = item.item === null;
  $("comment-box").hidden = $("prompt").hidden = $("answers").hidden = finished;
  replace($("how"), finished ? w("done") : w(pairwise() ? "howPair" : "howMany"), item.said ? el("span", {class: "said", text: w("revising")}) : null);
  $("board").hidden = finished || pairwise();
  if (finished) return replace($("actions"));
  replace($("prompt"), item.prompt.map(({role, content}) => el("article", {class: `turn ${role}`}, el("h2", {text: w(role)}), markdown(content))));
  replace($("answers"), item.answers.map((answer, place) => card(answer, place)));
  $("answers").dataset.count = item.answers.length;
  if (pairwise()) return drawActions();
  const held = state.board?.tiers;
  state.board = new Board($("board"), Object.fromEntries(item.answers.map((answer, place) => [answer.id, letter(place)])), drawActions);
  if (held) state.board.tiers = held;
  else if (item.said?.verdict === "ranked") state.board.restore(item.said.ranks);
  state.board.update();
}

function card(answer, place) {
  const name = w("answer", {letter: letter(place)});
  const rank = state.item.said?.ranks?.[answer.id];
  const head = el("header", {class: "answer-head"}, el("h2", {text: name}), el("kbd", {text: String(place + 1)}), pairwise() && rank ? el("span", {class: "said-rank", text: w("rank", {n: rank})}) : null);
  return el("article", {class: "answer", tabindex: "0", "aria-label": name, data: {id: answer.id}}, head, markdown(answer.text));
}

function action(text, key, run, attributes = {}) {
  return el("button", {type: "button", ...attributes, on: {click: run}}, el("span", {text}), el("kbd", {text: key}));
}

function drawActions() {
  const {answers} = state.item;
  const rest = [action(w(pairwise() ? "bothBad" : "allBad"), "B", () => judge("bad")), action(w("skip"), "S", () => judge("skipped"))];
  if (pairwise()) {
    const choose = answers.map((answer, place) => action(w("better", {letter: letter(place)}), String(place + 1), () => prefer(place), {class: "primary"}));
    return replace($("actions"), choose, action(w("tie"), "0", () => prefer(null)), rest);
  }
  const {board} = state;
  const place = answers.map((answer, at) => {
    const placed = !board.unplaced.includes(answer.id);
    return action(w(placed ? "unplace" : "place", {letter: letter(at)}), String(at + 1), () => board.toggle(answer.id), {class: placed ? "quiet" : null});
  });
  const tie = action(w("tieNext"), "=", () => board.tie(), {"aria-pressed": String(board.tieNext), disabled: !board.tiers.length || !board.unplaced.length});
  const save = action(w("save"), "Enter", saveOrder, {class: "primary", disabled: board.ranks() === null});
  return replace($("actions"), el("div", {class: "places"}, place, tie), save, action(w("clear"), "C", () => board.clear()), rest);
}

/** The better one of two, by its place; null: neither. */
function prefer(place) {
  const ranks = state.item.answers.map((answer, at) => [answer.id, place === null || at === place ? 1 : 2]);
  return judge("ranked", Object.fromEntries(ranks));
}

function saveOrder() {
  const ranks = state.board.ranks();
  if (ranks) judge("ranked", ranks);
}

async function judge(verdict, ranks = {}) {
  if (state.busy || state.item?.item == null) return;
  state.busy = true;
  const body = {item: state.item.item, annotator: state.name, verdict, ranks, comment: $("comment").value, seconds: (performance.now() - state.began) / 1000};
  try {
    const following = await ask("/api/judgements", body);
    state.passed = state.passed.filter((number) => number !== body.item).concat(body.item);
    show(following);
    $("announce").textContent = w("saved");
  } catch (error) {
    problem(error);
  } finally {
    state.busy = false;
  }
}

function show(item) {
  Object.assign(state, {item, board: null, began: performance.now()});
  $("comment").value = item.said?.comment ?? "";
  replace($("notices"));
  draw();
  window.scrollTo(0, 0);
}

async function following() {
  try {
    show(await ask(`/api/next?annotator=${encodeURIComponent(state.name)}`));
  } catch (error) {
    problem(error);
  }
}

/** The item judged before the one in sight. */
async function back() {
  try {
    const {items} = await ask(`/api/history?annotator=${encodeURIComponent(state.name)}`);
    const order = items.map((one) => one.item);
    const at = order.indexOf(state.item?.item);
    const number = order[at + 1];
    if (number === undefined) return replace($("notices"), el("div", {class: "notice", text: w("first")}));
    show(await ask(`/api/items/${number}?annotator=${encodeURIComponent(state.name)}`));
  } catch (error) {
    problem(error);
  }
}

async function askName() {
  for (;;) {
    const field = el("input", {type: "text", maxlength: "64", value: state.name, autocomplete: "off"});
    const content = [el("p", {text: w("nameWhy")}), el("label", {class: "field"}, el("span", {text: w("name")}), field)];
    const given = await dialog(w("title"), content, {action: w("begin"), value: () => field.value.trim() || undefined});
    if (given) remember(given);
    if (state.name) return following();
  }
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.closest("textarea, input, select") || state.item?.item == null) return;
  const key = event.key.toLowerCase();
  const place = Number(key) - 1;
  const answers = state.item.answers;
  if (place >= 0 && place < answers.length) pairwise() ? prefer(place) : state.board.toggle(answers[place].id);
  else if (key === "0" && pairwise()) prefer(null);
  else if (key === "=" && !pairwise()) state.board.tie();
  else if (key === "enter" && !pairwise() && !event.target.closest("button, a")) saveOrder();
  else if (key === "b") judge("bad");
  else if (key === "s") judge("skipped");
  else if (key === "c" && !pairwise()) state.board.clear();
  else if (key === "z" || key === "backspace") back();
  else return;
  event.preventDefault();
}

$("language").addEventListener("click", () => {
  preferences.set("language", language() === "zh" ? "en" : "zh");
  applyPreferences();
  draw();
});
$("who").addEventListener("click", askName);
$("back").addEventListener("click", back);
$("overview").addEventListener("click", overviewDialog);
$("keys").addEventListener("click", keysDialog);
document.addEventListener("keydown", pressed);

applyPreferences();
draw();
document.documentElement.dataset.ready = "";
try {
  state.title = (await ask("/api/project")).title;
} catch (error) {
  problem(error);
}
await (state.name ? following() : askName());
