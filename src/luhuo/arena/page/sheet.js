/** The rating sheet: an expert writes their own answer first, then rates the models' answers one by one. */

import {el, replace} from "/chat/dom.js";
import {language} from "/chat/preferences.js";
import {$, ask, askName, markdown, problem, remembered, switches} from "/page/common.js";
import {w} from "/page/words.js";

const state = {name: remembered(), title: "", criteria: [], task: null, busy: false};

function draw() {
  document.title = w("sheetTitle");
  $("title").textContent = state.title || w("sheetTitle");
  $("who").textContent = state.name ? w("as", {name: state.name}) : "";
  const {task} = state;
  if (!task) return;
  $("bar").max = task.total || 1;
  $("bar").value = task.done;
  $("count").textContent = w("count", task);
  const over = task.item === null;
  $("how").textContent = w(over ? "done" : task.answer ? "rateIt" : "write");
  replace($("prompt"), over ? null : task.prompt.map(({content}) => el("article", {class: "turn"}, el("h2", {text: w("prompt")}), markdown(content))));
  const card = (title, text, kind) => el("article", {class: `answer ${kind}`, tabindex: "0", "aria-label": title}, el("h2", {text: title}), markdown(text));
  replace($("answers"), over || !task.answer ? null : [card(w("answer"), task.answer.text, "rated"), (task.references ?? []).map((text) => card(w("reference"), text, "reference"))]);
  replace($("form"), over ? null : task.answer ? scales(task) : own());
}

/** What is filled in stays when the language changes. */
function kept() {
  return new FormData($("form"));
}

function own() {
  const text = kept().get("text") ?? "";
  const field = el("textarea", {name: "text", maxlength: "20000", required: true});
  field.value = text;
  return [el("label", {class: "own"}, el("span", {text: w("yours")}), field), el("button", {type: "submit", class: "primary", text: w("save")})];
}

function scales() {
  const given = kept();
  const boxes = state.criteria.map((one) => {
    const values = Array.from({length: one.high - one.low + 1}, (_, step) => one.low + step);
    const choice = (value) => el("label", {}, el("input", {type: "radio", name: `scale:${one.id}`, value: String(value), checked: given.get(`scale:${one.id}`) === String(value)}), el("span", {text: String(value)}));
    const text = (language() === "zh" ? one.zh || one.en : one.en || one.zh) || one.id;
    return el("fieldset", {class: "scale"}, el("legend", {text}), el("div", {class: "steps"}, el("span", {class: "hint", text: w("lowest")}), values.map(choice), el("span", {class: "hint", text: w("highest")})));
  });
  const comment = el("textarea", {name: "comment", class: "short", rows: "1", maxlength: "4000"});
  comment.value = given.get("comment") ?? "";
  return [boxes, el("label", {class: "own"}, el("span", {text: w("comment")}), comment), el("button", {type: "submit", class: "primary", text: w("save")})];
}

async function save() {
  const {task} = state;
  if (state.busy || !task || task.item === null) return;
  const form = kept();
  let path = "/api/references";
  let body = {item: task.item, expert: state.name, text: form.get("text")};
  if (task.answer) {
    const values = Object.fromEntries(state.criteria.map((one) => [one.id, Number(form.get(`scale:${one.id}`) ?? Number.NaN)]));
    if (Object.values(values).some(Number.isNaN)) return problem(new Error(w("missing")));
    path = "/api/ratings";
    body = {answer: task.answer.id, expert: state.name, values, comment: form.get("comment") ?? ""};
  } else if (!body.text.trim()) {
    return;
  }
  state.busy = true;
  try {
    show(await ask(path, body));
    $("announce").textContent = w("saved");
  } catch (error) {
    problem(error);
  } finally {
    state.busy = false;
  }
}

function show(task) {
  state.task = task;
  replace($("form"));
  replace($("notices"));
  draw();
  window.scrollTo(0, 0);
  $("form").querySelector("textarea, input")?.focus();
}

async function following() {
  try {
    show(await ask(`/api/next?expert=${encodeURIComponent(state.name)}`));
  } catch (error) {
    problem(error);
  }
}

async function named() {
  state.name = await askName(state.name);
  draw();
  await following();
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  save();
});
$("who").addEventListener("click", named);

switches(draw);
draw();
document.documentElement.dataset.ready = "";
try {
  const {title, criteria} = await ask("/api/sheet");
  Object.assign(state, {title, criteria});
} catch (error) {
  problem(error);
}
await (state.name ? following() : named());
