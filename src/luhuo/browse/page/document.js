/** One document: its fate, its text before and after with marks, its signals beside their limits. */

import {el, replace} from "/chat/dom.js";
import {ask, problem} from "/page/server.js";
import {w} from "/page/words.js";

/** Draw a document. `back` is the address of the list; `hidden` whether personal data is hidden, `hide(value)` sets it. */
export function drawDocument(view, told, {back, hidden, hide}) {
  const step = (line, key) => (line < 0 || line >= told.lines ? el("span", {class: "step", text: w(key)}) : el("a", {class: "step", href: `#/doc/${told.part}/${line}`, text: w(key)}));
  const box = el("label", {class: "check"}, el("input", {type: "checkbox", checked: hidden, on: {change: (event) => hide(event.target.checked)}}), el("span", {text: w("hide")}));
  const bar = el("nav", {class: "bar"}, el("a", {href: back, text: `← ${w("back")}`}), step(told.line - 1, "previous"), step(told.line + 1, "next"), el("span", {class: "meta", text: w("place", {unit: told.unit, n: told.line + 1, lines: told.lines})}), box);
  const texts = el("div", {class: "texts"}, column("before", told.before, hidden, "personal"), second(told, hidden));
  const cutOff = told.cut_off ? el("p", {class: "hint", text: w("cutOff")}) : null;
  replace(view, bar, fate(told, texts), texts, cutOff, signals(told), about(told));
}

/** What stands beside the text as it was read. */
function second(told, hidden) {
  if (told.after && !same(told)) return column("after", told.after, hidden, "replaced");
  const hint = told.after ? "unchanged" : told.state === "dropped" ? "notWritten" : null;
  return hint && el("section", {class: "text-column"}, el("h2", {text: w("after")}), el("p", {class: "hint", text: w(hint)}));
}

/** Put the document that is kept of the same cluster beside this one, with differences marked. */
async function compare(told, texts, button) {
  button.disabled = true;
  try {
    let place = [0, 0];
    for (let hit = null; place; ) {
      const page = await ask(`/api/search?cluster=${told.verdict.cluster}&state=kept&limit=1&part=${place[0]}&line=${place[1]}`);
      [hit] = page.hits;
      place = page.next;
      if (!hit) continue;
      const both = await ask(`/api/compare?part=${told.part}&line=${told.line}&other_part=${hit.part}&other_line=${hit.line}`);
      const heading = el("h2", {}, `${w("keptInstead")}: `, el("a", {href: `#/doc/${hit.part}/${hit.line}`, text: `${hit.source} ${hit.id.slice(0, 12)}`}));
      const kept = column("keptInstead", both.other, false, "differs");
      kept.firstChild.replaceWith(heading);
      replace(texts, column("before", both.one, false, "differs"), kept);
      return;
    }
    problem(new Error(w("noneKept")));
  } catch (error) {
    problem(error);
  }
  button.disabled = false;
}

function same({before, after}) {
  const join = (segments) => segments.map(([text]) => text).join("");
  return join(before) === join(after);
}

function fate(told, texts) {
  const {state, reasons, verdict} = told;
  const rows = reasons.map(({code, value, why}) => el("li", {}, el("span", {class: "badge dropped", text: code}), el("span", {text: ` ${value === null ? "" : value} `, class: "figure"}), el("span", {text: why})));
  const button = el("button", {type: "button", class: "compare", text: w("compare"), on: {click: () => compare(told, texts, button)}});
  const links = verdict === null ? null : el("p", {class: "links"}, verdict.kept ? null : button, el("a", {href: `#/?cluster=${verdict.cluster}`, text: w("alike")}));
  const head = rows.length ? [el("h2", {text: w("reasons")}), el("ul", {class: "reasons"}, rows)] : el("span", {class: `badge ${state}`, text: w(state)});
  return el("section", {class: "fate"}, head, links);
}

function column(name, segments, hidden, personal) {
  const nodes = segments.map(([text, mark, masked]) => {
    if (!mark) return text;
    const [what, kind] = mark.split(":");
    const title = what === "differs" ? null : w(what === "cut" ? "cut" : personal, {kind: w(kind)});
    return el("mark", {class: what === "cut" ? "cut" : personal, title, text: hidden ? masked : text});
  });
  return el("section", {class: "text-column"}, el("h2", {text: w(name)}), el("div", {class: `text ${name}`, tabindex: "0"}, nodes));
}

function signals({signals: rows}) {
  const side = (limit) => (limit === null ? "…" : limit.toLocaleString());
  const body = rows.map((row) => {
    const limits = row.reason ? `${side(row.min)} – ${side(row.max)}${row.flag ? ` (${w("flag")})` : ""}` : "";
    return el("tr", {class: row.broken ? "broken" : null, title: row.why ?? null}, el("th", {scope: "row", text: row.name}), el("td", {text: String(row.value)}), el("td", {text: limits}), el("td", {text: row.broken ? `${w("broken")}: ${row.reason}` : ""}));
  });
  if (!body.length) return null;
  const head = el("tr", {}, el("th", {text: w("signal")}), el("th", {text: w("value")}), el("th", {text: w("limits")}), el("th"));
  return el("section", {}, el("h2", {text: w("signals")}), el("table", {class: "signals"}, el("thead", {}, head), el("tbody", {}, body)));
}

function about({about: values}) {
  const rows = Object.entries(values).map(([name, value]) => [el("dt", {text: name}), el("dd", {text: typeof value === "object" ? JSON.stringify(value) : String(value)})]);
  return el("section", {}, el("h2", {text: w("about")}), el("dl", {class: "about"}, rows));
}
