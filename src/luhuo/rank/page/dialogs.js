/** What is looked up now and then: how far everybody is, and the keys. */

import {el} from "/chat/dom.js";
import {number} from "/chat/language.js";
import {dialog} from "/chat/view/ask.js";
import {ask, problem} from "/page/server.js";
import {w} from "/page/words.js";

export async function overviewDialog() {
  try {
    const told = await ask("/api/progress");
    const people = told.people.map((one) => [one.name, number(one.judgements), number(one.bad), number(one.skipped), number(one.seconds)]);
    const groups = [[w("everyone"), told.agreement], ...told.agreement.pairs.map((one) => [one.people.join(" · "), one])];
    const rows = groups.map(([name, one]) => [name, kappa(one), one.share === null ? "–" : `${number(100 * one.share)}%`, number(one.n)]);
    const agreement = told.agreement.n ? grid([w("agreement"), w("kappa"), w("same"), w("pairs")], rows) : el("p", {text: w("none")});
    const content = [el("p", {text: w("judged", told)}), grid([w("person"), w("judgements"), w("bad"), w("skipped"), w("seconds")], people), agreement];
    await dialog(w("overview"), content, {wide: true});
  } catch (error) {
    problem(error);
  }
}

function kappa({kappa, low, high}) {
  if (kappa === null) return "–";
  return low === null ? number(kappa, 2) : `${number(kappa, 2)} (${number(low, 2)} – ${number(high, 2)})`;
}

export function keysDialog() {
  const keys = [["1 – 9", "keyDigit"], ["0", "keyTie"], ["=", "keyTieNext"], ["Enter", "keyEnter"], ["B", "keyBad"], ["S", "keySkip"], ["C", "keyClear"], ["Z", "keyBack"]];
  return dialog(w("keys"), grid([], keys.map(([key, text]) => [el("kbd", {text: key}), w(text)])), {});
}

function grid(head, rows) {
  const top = head.length ? el("thead", {}, el("tr", {}, head.map((text) => el("th", {scope: "col", text})))) : null;
  return el("table", {class: "overview"}, top, el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell) => el("td", {}, cell))))));
}
