/** Small dialogs: a question with two answers, one line of text, the API key. The browser keeps the focus inside. */

import {el, replace} from "../dom.js";
import {t} from "../language.js";

/** A dialog with a title, content and buttons; closes with Escape. `done(value)` is called once, null if cancelled. */
export function dialog(title, content, {action, value = () => true, danger = false, wide = false}) {
  return new Promise((resolve) => {
    let answer = null;
    const heading = el("h2", {id: "dialog-title", text: title});
    const cancel = el("button", {type: "button", text: t(action ? "cancel" : "close"), on: {click: () => box.close()}});
    const go = action ? el("button", {type: "submit", class: danger ? "danger" : "primary", text: action}) : null;
    const form = el("form", {method: "dialog"}, heading, content, el("div", {class: "dialog-row"}, cancel, go));
    const box = el("dialog", {"aria-labelledby": "dialog-title", class: wide ? "wide" : null}, form);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const told = value();
      if (told === undefined) return; // something in the form is not right, and the form says what
      answer = told;
      box.close();
    });
    // What is pressed in a dialog is not meant for the page behind it.
    box.addEventListener("keydown", (event) => event.stopPropagation());
    box.addEventListener("close", () => {
      box.remove();
      resolve(answer);
    });
    document.body.append(box);
    box.showModal();
  });
}

/** Whether the person says yes. */
export async function ask(question, action) {
  return (await dialog(question, null, {action, danger: true})) === true;
}

/** The text the person gives, or null. */
export function askText(title, label, text) {
  const field = el("input", {type: "text", value: text, maxlength: "200"});
  return dialog(title, el("label", {class: "field"}, el("span", {text: label}), field), {action: t("save"), value: () => field.value});
}

/** The API key the person gives, or null; `wrong` when one was refused. */
export function askKey(wrong) {
  const field = el("input", {type: "password", autocomplete: "off", spellcheck: "false"});
  const why = el("p", {text: t(wrong ? "errorKeyWrong" : "errorKey")});
  const content = [why, el("label", {class: "field"}, el("span", {text: t("keyTitle")}), field), el("p", {class: "hint", text: t("keyHint")})];
  return dialog(t("keyTitle"), content, {action: t("keyUse"), value: () => field.value.trim() || undefined});
}

/** A select element with its label; `choices` are [value, text]. */
export function choice(label, choices, chosen, run) {
  const select = el("select", {on: {change: () => run(select.value)}});
  replace(select, choices.map(([value, text]) => el("option", {value, selected: value === chosen, text})));
  return el("label", {class: "field row"}, el("span", {text: label}), select);
}
