/** The form of what one looks for. What it says is the address of the page, so that a search can be kept and gone back to. */

import {el, replace} from "/chat/dom.js";
import {w} from "/page/words.js";

const TEXTS = ["text", "id", "cluster"];
const CHECKS = ["regex", "case"];
const CHOICES = {state: () => ["kept", "dropped", "changed"], reason: (about) => about.reasons, source: (about) => about.sources, lang: (about) => about.langs};

/** Draw the form for an address; `go(parameters)` is called with the next one. */
export function drawFilters(parent, about, parameters, go) {
  const input = (name, label, type = "search") => el("label", {class: "field"}, el("span", {text: w(label)}), el("input", {name, type, value: parameters.get(name) ?? "", autocomplete: "off", spellcheck: "false", maxlength: "1000"}));
  const check = (name) => el("label", {class: "check"}, el("input", {name, type: "checkbox", checked: parameters.has(name)}), el("span", {text: w(name)}));
  const choice = (name, given) => {
    const chosen = parameters.get(name) ?? "";
    const options = given.includes(chosen) || !chosen ? given : [...given, chosen];
    const shown = options.map((value) => el("option", {value, selected: value === chosen, text: name === "state" ? w(value) : value}));
    return el("label", {class: "field"}, el("span", {text: w(name)}), el("select", {name, on: {change: () => form.requestSubmit()}}, el("option", {value: "", text: w("any")}), shown));
  };
  const ranges = parameters.getAll("signal").map((range) => chip(range, () => submit(form, go, {without: range})));
  const form = el(
    "form",
    {on: {submit: (event) => {
      event.preventDefault();
      submit(form, go, {});
    }}},
    input("text", "search"),
    el("div", {class: "checks"}, CHECKS.map(check)),
    Object.entries(CHOICES).map(([name, given]) => (name === "state" && !about.decided ? null : choice(name, given(about)))),
    rangeFields(about),
    el("div", {class: "chips"}, ranges),
    input("id", "id"),
    input("cluster", "cluster"),
    el("div", {class: "buttons"}, el("button", {class: "primary", text: w("go")}), el("button", {type: "button", class: "quiet", text: w("reset"), on: {click: () => go(new URLSearchParams())}})),
  );
  replace(parent, form);
}

function rangeFields(about) {
  const number = (name, label) => el("input", {name, type: "number", step: "any", placeholder: w(label), "aria-label": w(label)});
  const names = about.signals.map((name) => el("option", {value: name, text: name}));
  return el("fieldset", {class: "range"}, el("label", {class: "field"}, el("span", {text: w("signal")}), el("select", {name: "range"}, el("option", {value: "", text: "—"}), names)), el("div", {class: "sides"}, number("least", "least"), number("most", "most")));
}

function chip(range, remove) {
  const [name, least, most] = range.split(":");
  const text = `${least ? `${least} ≤ ` : ""}${name}${most ? ` ≤ ${most}` : ""}`;
  return el("button", {type: "button", class: "chip", title: w("remove", {name: text}), data: {range}, on: {click: remove}}, el("span", {text}), el("span", {"aria-hidden": "true", text: " ×"}));
}

/** The form as parameters, without one range. */
function submit(form, go, {without = null}) {
  const values = new FormData(form);
  const found = new URLSearchParams();
  for (const name of [...TEXTS, ...Object.keys(CHOICES)]) if (values.get(name)) found.set(name, values.get(name));
  for (const name of CHECKS) if (values.has(name)) found.set(name, "true");
  for (const {dataset} of form.querySelectorAll(".chip")) if (dataset.range !== without) found.append("signal", dataset.range);
  const [name, least, most] = ["range", "least", "most"].map((field) => values.get(field));
  if (name && (least || most)) found.append("signal", `${name}:${least}:${most}`);
  go(found);
}
