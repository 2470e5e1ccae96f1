/** The interface's texts in the person's language. */

import {language} from "./preferences.js";
import {WORDS} from "./words.js";

const MAC = /Mac|iPhone|iPad/.test(navigator.platform ?? "");

/** The text of a key of words.js, with {name} filled in from `values`. */
export function t(key, values = {}) {
  const text = WORDS[key][language() === "zh" ? 1 : 0];
  const all = {ctrl: MAC ? "⌘" : "Ctrl", ...values};
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(all[name] ?? whole));
}

/** A number as the language writes it, with at most this many digits behind the point. */
export function number(value, digits = 0) {
  return new Intl.NumberFormat(language() === "zh" ? "zh-CN" : "en", {maximumFractionDigits: digits}).format(value);
}

/** Fill in the texts of the page itself: data-t is the content, data-t-label the label of what has no content. */
export function translatePage(root = document) {
  for (const element of root.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of root.querySelectorAll("[data-t-label]")) {
    element.setAttribute("aria-label", t(element.dataset.tLabel));
    if (element.tagName === "BUTTON") element.title = t(element.dataset.tLabel);
  }
  for (const element of root.querySelectorAll("[data-t-placeholder]")) element.placeholder = t(element.dataset.tPlaceholder);
  document.title = t("title");
}
