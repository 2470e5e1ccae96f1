/** What is looked up now and then: the leaderboard with its matrix, and the keys. */

import {el, replace} from "/chat/dom.js";
import {number} from "/chat/language.js";
import {dialog} from "/chat/view/ask.js";
import {ask, grid, problem} from "/page/common.js";
import {w} from "/page/words.js";

export async function boardDialog() {
  try {
    const body = el("div", {id: "standing"});
    const box = el("input", {type: "checkbox", id: "equal"});
    const show = async () => replace(body, standing(await ask(`/api/leaderboard?style=${box.checked}`)));
    box.addEventListener("change", () => show().catch(problem));
    await show();
    await dialog(w("board"), [el("label", {class: "check"}, box, el("span", {text: w("equal")})), body], {wide: true});
  } catch (error) {
    problem(error);
  }
}

function standing({votes, left_out: left, groups}) {
  const told = Object.entries(left).map(([name, count]) => `${w(name)} ${number(count)}`).join(", ");
  const head = el("p", {text: [votes ? w("counted", {votes: number(votes)}) : w("noVotes"), told ? w("leftOut", {told}) : ""].join(" ")});
  return [head, groups.map(table)];
}

function table({rows, matrix, note}) {
  const bound = (value) => (value === null ? "?" : number(value));
  const rating = (row) => (row.low === null ? `${number(row.rating)} (${w("more")})` : `${number(row.rating)} (${bound(row.low)} – ${bound(row.high)})`);
  const lines = rows.map((row) => [row.model, number(row.rank), rating(row), number(row.votes), `${number(100 * row.win_rate, 1)}%`]);
  const cells = new Map(matrix.map((one) => [JSON.stringify([one.model, one.against]), one]));
  const cell = (a, b) => {
    const one = cells.get(JSON.stringify([a, b]));
    return one ? `${number(100 * one.share)}% (${number(one.votes)})` : "–";
  };
  const models = rows.map((row) => row.model);
  const pairs = grid([w("model"), ...models], models.map((a) => [a, ...models.map((b) => cell(a, b))]));
  return [grid([w("model"), w("rank"), w("rating"), w("number"), w("rate")], lines), note ? el("p", {class: "hint", text: note}) : null, el("p", {class: "hint", text: w("pairs")}), pairs];
}

export function keysDialog() {
  const keys = [["1", "keyA"], ["2", "keyB"], ["0", "keyTie"], ["B", "keyBad"], ["N", "keyNew"], ["Enter", "keySend"]];
  return dialog(w("keys"), grid([], keys.map(([key, text]) => [el("kbd", {text: key}), w(text)])), {});
}
