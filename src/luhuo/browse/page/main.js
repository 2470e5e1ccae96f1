/** The browsing page: the address says what is shown, a list of documents or one of them. */

import {el, replace} from "/chat/dom.js";
import {applyPreferences, language, preferences} from "/chat/preferences.js";
import {drawDocument} from "/page/document.js";
import {drawFilters} from "/page/filters.js";
import {List} from "/page/list.js";
import {ask, problem} from "/page/server.js";
import {w} from "/page/words.js";

const $ = (id) => document.getElementById(id);
const state = {about: null, list: null, address: "", told: null, hidden: false};

function draw() {
  document.title = state.about ? `${state.about.name} · ${w("title")}` : w("title");
  $("title").textContent = state.about?.name ?? w("title");
  $("language").textContent = w("other");
  if (!state.about) return;
  replace($("stages"), state.about.stages.map(([stage, name]) => el("span", {class: "stage", text: `${stage}: ${name}`})));
  route();
}

const go = (parameters) => {
  const address = `#/?${parameters}`;
  if (address === location.hash) state.list = null;
  location.hash = address;
  if (!state.list) route();
};

async function route() {
  const document_ = location.hash.match(/^#\/doc\/(\d+)\/(\d+)$/);
  document.body.dataset.view = document_ ? "document" : "list";
  if (document_) return showDocument(Number(document_[1]), Number(document_[2]));
  const address = location.hash.replace(/^#\/?\??/, "");
  const parameters = new URLSearchParams(address);
  if (!state.list || state.address !== address) {
    state.list?.stop();
    Object.assign(state, {list: new List($("view"), parameters), address});
  }
  drawFilters($("filters"), state.about, parameters, go);
  state.list.show();
}

async function showDocument(part, line) {
  state.list?.stop();
  try {
    if (state.told?.part !== part || state.told?.line !== line) state.told = await ask(`/api/documents/${part}/${line}`);
    problem(null);
  } catch (error) {
    return problem(error);
  }
  const hide = (value) => {
    state.hidden = value;
    drawDocument($("view"), state.told, {back: `#/?${state.address}`, hidden: value, hide});
  };
  hide(state.hidden);
  $("view").focus({preventScroll: true});
  window.scrollTo(0, 0);
}

$("language").addEventListener("click", () => {
  preferences.set("language", language() === "zh" ? "en" : "zh");
  applyPreferences();
  draw();
});
window.addEventListener("hashchange", () => state.about && route());

applyPreferences();
draw();
try {
  state.about = await ask("/api/corpus");
} catch (error) {
  problem(error);
}
draw();
document.documentElement.dataset.ready = "";
