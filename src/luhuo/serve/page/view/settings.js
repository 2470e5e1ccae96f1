/** The dialogs of settings: those of a conversation, and those of the page. */

import {SAMPLING, isToolList} from "../conversation.js";
import {el} from "../dom.js";
import {t} from "../language.js";
import {preferences} from "../preferences.js";
import {choice, dialog} from "./ask.js";

const MOST_STOPS = 16;

/** System prompt, sampling, stop texts and tools of a conversation. Whether they were changed. */
export async function conversationSettings(conversation) {
  const system = area("system", conversation.system, 5, "systemHint");
  const fields = Object.entries(SAMPLING).map(([name, range]) => samplingField(name, range, conversation.sampling[name]));
  const stop = area("stopTexts", conversation.stop.join("\n"), 2, "stopHint");
  const tools = area("tools", conversation.tools, 4, "toolsHint");
  tools.input.spellcheck = false;
  tools.input.classList.add("code-field");
  const content = [
    system.field,
    el("fieldset", {}, el("legend", {text: t("sampling")}), el("p", {class: "hint", text: t("samplingHint")}), el("div", {class: "grid"}, fields.map((one) => one.field))),
    stop.field, tools.field,
  ];
  const told = await dialog(t("settings"), content, {action: t("save"), wide: true, value: () => read(system, fields, stop, tools)});
  if (told) Object.assign(conversation, told);
  return told !== null;
}

function area(name, text, rows, hint) {
  const input = el("textarea", {rows: String(rows)});
  input.value = text;
  const error = el("span", {class: "field-error", role: "alert"});
  return {input, error, field: el("label", {class: "field"}, el("span", {text: t(name)}), input, el("span", {class: "hint", text: t(hint)}), error)};
}

function samplingField(name, {min, max, step}, value) {
  // The step is the arrows' only: any number in the range is good.
  const input = el("input", {type: "text", inputmode: "decimal", value: value === undefined ? null : String(value), autocomplete: "off"});
  input.addEventListener("keydown", (event) => {
    const direction = {ArrowUp: 1, ArrowDown: -1}[event.key];
    if (!direction) return;
    event.preventDefault();
    const next = Math.min(max, Math.max(min, (Number.parseFloat(input.value) || min) + direction * step));
    input.value = String(Number(next.toFixed(4)));
  });
  const error = el("span", {class: "field-error", role: "alert"});
  return {name, input, error, field: el("label", {class: "field"}, el("span", {text: t(name)}), input, el("span", {class: "hint", text: t(`${name}Hint`)}), error)};
}

/** The values of the form; undefined when one of them is not right, which then says so. */
function read(system, fields, stop, tools) {
  const sampling = {};
  let sound = true;
  for (const {name, input, error} of fields) {
    const {min, max, whole} = SAMPLING[name];
    const text = input.value.trim().replace(",", ".");
    const value = Number(text);
    const good = text === "" || (value >= min && value <= max && (!whole || Number.isInteger(value)));
    error.textContent = good ? "" : t("outOfRange", {min, max});
    input.setAttribute("aria-invalid", String(!good));
    sound &&= good;
    if (good && text !== "") sampling[name] = value;
  }
  const toolsGood = isToolList(tools.input.value);
  tools.error.textContent = toolsGood ? "" : t("toolsBroken");
  if (!sound || !toolsGood) return undefined;
  const stops = stop.input.value.split("\n").filter((line) => line !== "").slice(0, MOST_STOPS);
  return {system: system.input.value, sampling, stop: stops, tools: tools.input.value.trim()};
}

/** Language, theme, the key that sends; and the list of keys. */
export async function pageSettings(version) {
  const set = (name) => (value) => preferences.set(name, value);
  const fields = [
    choice(t("language"), [["auto", t("auto")], ["en", t("en")], ["zh", t("zh")]], preferences.get("language"), set("language")),
    choice(t("theme"), [["system", t("themeSystem")], ["light", t("light")], ["dark", t("dark")]], preferences.get("theme"), set("theme")),
    choice(t("sendKey"), [["enter", t("sendEnter")], ["ctrl-enter", t("sendCtrl")]], preferences.get("send"), set("send")),
  ];
  const send = preferences.get("send") === "enter" ? t("sendEnter") : t("sendCtrl");
  const keys = [[send, "keySend"], ["Esc", "keyStop"], ["/", "keyFocus"], ["↑", "keyEdit"], [`${t("sendCtrl").split("+")[0]}+Shift+O`, "keyNew"]];
  const list = el("dl", {class: "keys"}, keys.map(([key, what]) => [el("dt", {}, el("kbd", {text: key})), el("dd", {text: t(what)})]));
  const about = version ? el("p", {class: "hint", text: t("version", {version})}) : null;
  await dialog(t("preferences"), [fields, el("h3", {text: t("keys")}), list, about], {});
}
