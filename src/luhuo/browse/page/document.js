/** One document: its fate, its text before and after with marks, its signals beside their limits. */

import {el, replace} from "/chat/dom.js";
import {w} from "/page/words.js";

/** Draw a document. `back` is the address of the list; `hidden` whether personal data is hidden, `hide(value)` sets it. */
export function drawDocument(view, told, {back, hidden, hide}) {
  const step = (line, key) => (line < 0 || line >= told.lines ? el("span", {class: "step", text: w(key)}) : el("a", {class: "step", href: `#/doc/${told.part}/${line}`, text: w(key)}));
  const box = el("label", {class: "check"}, el("input", {type: "checkbox", checked: hidden, on: {change: (event) => hide(event.target.checked)}}), el("span", {text: w("hide")}));
  const bar = el("nav", {class: "bar"}, el("a", {href: back, text: `← ${w("back")}`}), step(told.line - 1, "previous"), step(told.line + 1, "next"), el("span", {class: "meta", text: w("place", {unit: told.unit, n: told.line + 1, lines: told.lines})}), box);
  const texts = [column("before", told.before, hidden, "personal")];
  if (told.after) texts.push(same(told) ? el("section", {class: "text-column"}, el("h2", {text: w("after")}), el("p", {class: "hint", text: w("unchanged")})) : column("after", told.after, hidden, "replaced"));
  else if (told.state === "dropped") texts.push(el("section", {class: "text-column"}, el("h2", {text: w("after")}), el("p", {class: "hint", text: w("notWritten")})));
  const cutOff = told.cut_off ? el("p", {class: "hint", text: w("cutOff")}) : null;
  replace(view, bar, fate(told), el("div", {class: "texts"}, texts), cutOff, signals(told), about(told));
}

function same({before, after}) {
  const join = (segments) => segments.map(([text]) => text).join("");
  return join(before) === join(after);
}

function fate({state, reasons, verdict}) {
  const rows = reasons.map(({code, value, why}) => el("li", {}, el("span", {class: "badge dropped", text: code}), el("span", {text: ` ${value === null ? "" : value} `, class: "figure"}), el("span", {text: why})));
  const links = verdict === null ? null : el("p", {class: "links"}, verdict.of ? [w("duplicateOf"), " ", el("a", {href: `#/?id=${verdict.of.slice(0, 16)}&state=kept`, text: verdict.of.slice(0, 12)}), " · "] : null, el("a", {href: `#/?cluster=${verdict.cluster}`, text: w("alike")}));
  const head = rows.length ? [el("h2", {text: w("reasons")}), el("ul", {class: "reasons"}, rows)] : el("span", {class: `badge ${state}`, text: w(state)});
  return el("section", {class: "fate"}, head, links);
}

function column(name, segments, hidden, personal) {
  const nodes = segments.map(([text, mark, masked]) => {
    if (!mark) return text;
    const [what, kind] = mark.split(":");
    const title = w(what === "cut" ? "cut" : personal, {kind: w(kind)});
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
