/** The page put together: store, chat, views, the server's models, keyboard, language and theme. */

import * as api from "./api.js";
import {Chat} from "./chat.js";
import {el, icon} from "./dom.js";
import {t, translatePage} from "./language.js";
import {applyPreferences, preferences} from "./preferences.js";
import {parts} from "./reasoning.js";
import {Store} from "./store.js";
import {ask, askKey} from "./view/ask.js";
import {Composer, sends} from "./view/composer.js";
import {ModelChoice} from "./view/models.js";
import {clearNotices, notice, problemText} from "./view/notices.js";
import {conversationSettings, pageSettings} from "./view/settings.js";
import {Sidebar} from "./view/sidebar.js";
import {Thread} from "./view/thread.js";

const READ_ALOUD = 2000;
const $ = (id) => document.getElementById(id);
const chat = new Chat(await Store.open());
const actions = {
  sends,
  again: (node) => !chat.busy && chat.again(node),
  edit: (node, text) => !chat.busy && chat.edit(node, text),
  goOn: () => chat.send(t("goOnText")),
  select: (node, label) => !chat.busy && thread.select(node, label),
  toolResults: (node, results) => chat.toolResults(node, results),
  remove: async (node) => !chat.busy && (await ask(t("removeMessageSure"), t("remove"))) && chat.removeFrom(node),
  vote: (node, vote) => saved(chat.vote(node, vote)),
  prefer: (node) => saved(chat.prefer(node)),
  focusDraft: () => $("draft").focus(),
};
const thread = new Thread(chat, actions, emptyState);
const composer = new Composer(chat, thread);
const models = new ModelChoice(chat);
const sidebar = new Sidebar(chat);

async function saved(feedback) {
  try {
    if ((await feedback) !== false && chat.config.feedback) notice(t("feedbackThanks"));
  } catch (error) {
    if (!(error instanceof api.ApiError)) throw error;
    notice(t("feedbackFailed", {why: problemText(error).map((part) => part?.textContent ?? "").join(" ")}));
  }
}

function emptyState() {
  const idea = (key) => el("button", {type: "button", class: "idea", text: t(key), disabled: !chat.open.model, on: {click: () => chat.send(t(key))}});
  return el("div", {class: "empty"},
    el("img", {src: "icon.svg", alt: "", width: "56", height: "56"}), el("h2", {text: t("greeting")}),
    chat.open.model ? el("p", {text: t("greetingSub", {model: chat.open.model})}) : null,
    el("div", {class: "ideas"}, ["idea1", "idea2", "idea3", "idea4"].map(idea)));
}

/** Ask the server what it offers; a server that wants a key gets one from the person, one that is gone is asked again. */
async function connect(wrong = false) {
  try {
    chat.config = await api.pageConfig();
    chat.models = await api.models();
    clearNotices();
    models.fill();
    if (!chat.models.length) notice(t("noModels"), {stay: true});
  } catch (error) {
    if (!(error instanceof api.ApiError)) throw error;
    if (error.kind === "key") return needKey(wrong);
    notice(problemText(error).map((part) => part?.textContent ?? "").join(" "), {stay: true, action: {label: t("retry"), run: () => connect()}});
  }
  thread.reset();
  composer.update();
  return undefined;
}

async function needKey(wrong, node = null) {
  const key = await askKey(wrong);
  if (key === null) {
    notice(t("errorKey"), {stay: true, action: {label: t("keyTitle"), run: () => needKey(false, node)}});
    return;
  }
  api.setKey(key);
  await connect(true);
  if (node) await chat.again(node);
}

/** Say to a screen reader that an answer is complete, once, and what it is. */
function announce(node) {
  if (node.id in chat.open.nodes && node.content) {
    $("announce").textContent = t("answerReady", {model: node.model, text: parts(node).answer.slice(0, READ_ALOUD)});
  }
}

function showTitle() {
  $("title").textContent = chat.open.title || t("untitled");
}

/** Everything that depends on the language is drawn anew. */
function translate() {
  applyPreferences();
  translatePage();
  showTitle();
  models.fill();
  sidebar.draw();
  thread.views.clear();
  thread.reset();
  composer.update();
}

function keyPressed(event) {
  if (event.isComposing || event.defaultPrevented) return;
  const writing = event.target.closest?.("input, textarea");
  if (event.key === "Escape") {
    if (document.body.classList.contains("drawer-open")) sidebar.drawer(false);
    else if (chat.busy) chat.stop();
  } else if (event.key === "/" && !writing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    $("draft").focus();
  } else if (event.key.toLowerCase() === "o" && event.shiftKey && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    sidebar.startNew();
  }
}

function decorate() {
  const drawings = {"drawer-close": "close", "drawer-open": "menu", "new-chat": "plus", preferences: "gear", settings: "sliders", "compare-toggle": "columns", "to-bottom": "bottom"};
  for (const [id, name] of Object.entries(drawings)) $(id).prepend(icon(name));
}

decorate();
applyPreferences();
translatePage();
chat.open.model = preferences.get("model");
chat.addEventListener("problem", (event) => notice(t(event.detail), {stay: true}));
chat.addEventListener("key", (event) => needKey(true, event.detail));
chat.addEventListener("end", (event) => announce(event.detail));
for (const type of ["open", "change", "renamed", "list"]) chat.addEventListener(type, showTitle);
preferences.watch((name) => (name === "model" ? null : translate()));
document.addEventListener("keydown", keyPressed);
$("preferences").addEventListener("click", () => pageSettings(chat.config.version));
$("settings").addEventListener("click", async () => (await conversationSettings(chat.open)) && Object.keys(chat.open.nodes).length && chat.save());
if (!chat.store.lasting) notice(t("storageNone"), {stay: true});
showTitle();
await sidebar.draw();
await connect();
$("draft").focus();
document.documentElement.dataset.ready = "true";
