/** What went wrong or was done, in plain words: texts of errors and the bar of notices. */

import {el, iconButton} from "../dom.js";
import {t} from "../language.js";

const ERRORS = {
  offline: "errorOffline", key: "errorKey", busy: "errorBusyStop", context: "errorContext", model: "errorModel",
  stopping: "errorStopping", server: "errorServer", request: "errorRequest", cut: "errorCut",
};
const SHOWN_MS = 6000;

/** Elements that say what an error means; the server's own words follow where they add something. */
export function problemText(error) {
  const said = ["context", "request", "server", "model"].includes(error.kind) && error.message;
  return [el("span", {text: t(ERRORS[error.kind])}), said ? el("span", {class: "server-says", text: t("serverSays", {message: error.message.slice(0, 600)})}) : null];
}

/** Show a line above the conversation; it goes away by itself unless `stay`. One that stands already comes to the end. */
export function notice(text, {stay = false, action = null} = {}) {
  const bar = document.getElementById("notices");
  for (const line of [...bar.children]) if (line.dataset.text === text) line.remove();
  const line = el("div", {class: "notice", data: {text}}, el("span", {text}));
  if (action) line.append(el("button", {type: "button", class: "quiet", text: action.label, on: {click: () => { line.remove(); action.run(); }}}));
  line.append(iconButton("close", t("dismiss"), () => line.remove()));
  bar.append(line);
  if (!stay) setTimeout(() => line.remove(), SHOWN_MS);
}

export function clearNotices() {
  document.getElementById("notices").replaceChildren();
}
