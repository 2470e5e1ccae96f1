/** What the arena and the rating sheet share: calls to the server, the person's name, language and theme. */

import {el, replace} from "/chat/dom.js";
import {MarkdownView} from "/chat/markdown/render.js";
import {applyPreferences, language, preferences} from "/chat/preferences.js";
import {dialog} from "/chat/view/ask.js";
import {w} from "/page/words.js";

const NAME = "luhuo-annotator";
export const $ = (id) => document.getElementById(id);

/** The response to a call; with a body it is posted. Throws an Error whose message is for the person. */
export async function call(path, body = null, signal = undefined) {
  const options = body === null ? {signal} : {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body), signal};
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(w("offline"));
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Error(told.error ?? w("offline"));
}

export const ask = async (path, body = null) => (await call(path, body)).json();

/** Say above the page what went wrong. */
export function problem(error) {
  replace($("notices"), el("div", {class: "notice", text: error.message}));
}

export function markdown(text) {
  const view = new MarkdownView();
  view.update(text);
  return view.element;
}

export function remembered() {
  try {
    return localStorage.getItem(NAME) ?? "";
  } catch {
    return ""; // a browser may forbid storage: the name is asked for each time
  }
}

/** Ask until there is a name, and keep it. */
export async function askName(name) {
  for (;;) {
    const field = el("input", {type: "text", maxlength: "64", value: name, autocomplete: "off"});
    const content = [el("p", {text: w("nameWhy")}), el("label", {class: "field"}, el("span", {text: w("name")}), field)];
    const given = await dialog(w("name"), content, {action: w("begin"), value: () => field.value.trim() || undefined});
    if (given) {
      try {
        localStorage.setItem(NAME, given);
      } catch {
        /* it holds until the page is closed */
      }
    }
    if (given || name) return given || name;
  }
}

/** The buttons for language and theme; `draw` is called after each change. */
export function switches(draw) {
  const other = () => (document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  const label = () => {
    $("language").textContent = w("other");
    $("theme").textContent = w(other());
  };
  $("language").addEventListener("click", () => {
    preferences.set("language", language() === "zh" ? "en" : "zh");
    applyPreferences();
    label();
    draw();
  });
  $("theme").addEventListener("click", () => {
    preferences.set("theme", other());
    applyPreferences();
    label();
  });
  applyPreferences();
  label();
}

export function grid(head, rows) {
  const top = head.length ? el("thead", {}, el("tr", {}, head.map((text) => el("th", {scope: "col", text})))) : null;
  const line = ([first, ...rest]) => el("tr", {}, el("th", {scope: "row"}, first), rest.map((cell) => el("td", {}, cell)));
  return el("div", {class: "wide", tabindex: "0"}, el("table", {class: "overview"}, top, el("tbody", {}, rows.map(line))));
}
