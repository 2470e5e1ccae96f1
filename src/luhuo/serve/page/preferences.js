/** What the person likes on this browser: language, theme, the key that sends. */

const NAME = "luhuo-preferences";
const CHOICES = {language: ["auto", "en", "zh"], theme: ["system", "light", "dark"], send: ["enter", "ctrl-enter"]};
const listeners = new Set();
const values = {language: "auto", theme: "system", send: "enter", model: "", ...read()};

function read() {
  let kept = {};
  try {
    kept = JSON.parse(localStorage.getItem(NAME) || "{}");
  } catch {
    return {}; // a browser may forbid storage, and what lies there may be broken: the defaults stand
  }
  const known = Object.entries(kept ?? {}).filter(([name, value]) => (name === "model" ? typeof value === "string" : CHOICES[name]?.includes(value)));
  return Object.fromEntries(known);
}

export const preferences = {
  get: (name) => values[name],
  choices: (name) => CHOICES[name],
  set(name, value) {
    values[name] = value;
    try {
      localStorage.setItem(NAME, JSON.stringify(values));
    } catch {
      /* the choice holds until the page is closed */
    }
    for (const run of listeners) run(name, value);
  },
  watch: (run) => listeners.add(run),
};

/** "en" or "zh": as chosen, else the first of the browser's languages that is either. */
export function language() {
  if (values.language !== "auto") return values.language;
  for (const name of navigator.languages ?? [navigator.language]) {
    if (/^(zh|cmn|yue)/i.test(name)) return "zh";
    if (/^en/i.test(name)) return "en";
  }
  return "en";
}

/** Put language and theme on the document, where the style sheets read them. */
export function applyPreferences() {
  const root = document.documentElement;
  root.lang = language() === "zh" ? "zh-Hans" : "en";
  const dark = values.theme === "dark" || (values.theme === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
  root.dataset.theme = dark ? "dark" : "light";
  document.querySelector('meta[name="theme-color"]')?.setAttribute("content", dark ? "#17191c" : "#ffffff");
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", applyPreferences);
