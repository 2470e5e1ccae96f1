/** Calls to the server, and what is shown when one fails. */

import {el, replace} from "/chat/dom.js";
import {w} from "/page/words.js";

/** The answer to a call; with a body it is posted. Throws an Error whose message is for the person. */
export async function ask(path, body = null) {
  const options = body === null ? {} : {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)};
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error(w("offline"));
  }
  const told = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(told.error ?? w("offline"));
  return told;
}

/** Say above the item what went wrong. */
export function problem(error) {
  replace(document.getElementById("notices"), el("div", {class: "notice", text: error.message}));
}
