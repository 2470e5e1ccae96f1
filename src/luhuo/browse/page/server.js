/** Calls to the server, and what is shown when one fails. */

import {el, replace} from "/chat/dom.js";
import {w} from "/page/words.js";

/** The answer to a call. Throws an Error whose message is for the person. */
export async function ask(path, signal = null) {
  let response;
  try {
    response = await fetch(path, {signal});
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(w("offline"));
  }
  const told = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(told.error ?? w("offline"));
  return told;
}

/** Say above everything what went wrong; null: nothing did. */
export function problem(error) {
  if (error?.name === "AbortError") return;
  replace(document.getElementById("notices"), error === null ? null : el("div", {class: "notice", text: error.message}));
}
