"use strict";
const WORDS = {
  step: ["step", "步"], steps: ["steps", "步"], tokens: ["tokens", "词元"], seconds: ["time", "时间"], smooth: ["smoothing", "平滑"],
  logx: ["log x", "x 对数"], logy: ["log y", "y 对数"], reset: ["whole range", "显示全部"],
  samples: ["What the model writes", "模型生成的样例"], events: ["Events", "事件"],
  loss: ["training loss", "训练损失"], nats: ["nats per token", "奈特/词元"],
  bpb: ["held-out text, by language", "留出文本（按语言）"], sources: ["held-out text, by source", "留出文本（按来源）"], bits: ["bits per byte", "每字节比特"], valid: ["held-out loss", "留出损失"],
  lr: ["learning rate", "学习率"], grad_norm: ["gradient norm", "梯度范数"], tokens_per_s: ["tokens per second", "每秒词元数"],
  mfu: ["MFU", "MFU"], ofpeak: ["share of the measured matrix rate", "占实测矩阵算力的比例"],
  time: ["time of a step", "单步用时"], ms: ["ms", "毫秒"], step_ms: ["step", "整步"], data_ms: ["waiting for data", "等待数据"],
  memory: ["peak memory", "内存峰值"], mb: ["MB", "MB"], skipped: ["batches passed over", "跳过的批数"],
  experts: ["load of the experts", "专家负载"], share: ["relative to an equal share", "相对均匀份额"],
  running: ["running", "进行中"], finished: ["finished", "已完成"], stopped: ["stopped", "已停止"],
  left: ["left", "剩余"], speed: ["tokens/s", "词元/秒"], held: ["bits/byte", "比特/字节"], lossnow: ["loss", "损失"],
  auto: ["auto", "自动"], light: ["light", "浅色"], dark: ["dark", "深色"], all: ["all", "全部"], at: ["at step", "第几步"],
  skip: ["batch passed over", "跳过一批"], rollback: ["went back", "回退"], resume: ["continued", "继续"],
  memory_event: ["out of memory", "内存不足"], stop: ["stopped", "停止"], more: ["other measures", "其他指标"],
  foot: ["Drag across a chart to enlarge a range, double-click for all of it. Thin lines are the values, thick ones their smoothed mean; bands span several steps.",
    "在图上拖动可放大区间，双击恢复。细线为原值，粗线为平滑均值；色带表示合并的多步范围。"],
  fresh: ["updates itself", "自动更新"], params: ["parameters", "参数"], of: ["of", "/"],
};
const PANELS = [
  {id: "loss", title: "loss", unit: "nats", keys: ["loss"], wide: "full", smooth: true, marks: true},
  {id: "bpb", title: "bpb", unit: "bits", match: /^valid_bpb(\.(?!source\.).*)?$/, wide: "half", strip: "valid_bpb"},
  {id: "sources", title: "sources", unit: "bits", match: /^valid_bpb\.source\./, wide: "half", strip: "valid_bpb.source"},
  {id: "valid", title: "valid", unit: "nats", match: /^valid\./, wide: "half", strip: "valid"},
  {id: "lr", title: "lr", keys: ["lr"]},
  {id: "grad_norm", title: "grad_norm", keys: ["grad_norm"], smooth: true},
  {id: "tokens_per_s", title: "tokens_per_s", keys: ["tokens_per_s"], smooth: true, zero: true},
  {id: "mfu", title: "mfu", unit: "ofpeak", keys: ["mfu"], smooth: true, zero: true, percent: true},
  {id: "time", title: "time", unit: "ms", keys: ["step_ms", "data_ms"], smooth: true, zero: true, named: true},
  {id: "memory", title: "memory", unit: "mb", keys: ["memory_mb"], zero: true},
  {id: "experts", title: "experts", unit: "share", match: /^expert_load\./, strip: "expert_load", smooth: true, zero: true},
];
const HIDDEN = new Set(["skipped"]);
const DASHES = [[], [6, 4], [2, 3], [9, 3, 2, 3], [12, 4], [4, 2]];
const COLOURS = 8;
const $ = (id) => document.getElementById(id);
let data = JSON.parse($("data").textContent);
let ui = Object.assign({axis: "step", logx: false, logy: false, smooth: 60, lang: data.language, theme: "auto", off: [], range: null, at: null}, load(), asked());
let panels = [];
let busy = false;

function load() {
  try { return JSON.parse(sessionStorage.getItem("luhuo-curve") || "{}"); } catch { return {}; }
}
/** Settings in the address, such as #axis=tokens&logy=1&lang=zh&theme=dark&smooth=80. */
function asked() {
  const found = {};
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
    if (["axis", "lang", "theme"].includes(name)) found[name] = value;
    if (["logx", "logy"].includes(name)) found[name] = value === "1";
    if (name === "smooth" && +value >= 0) found[name] = Math.min(100, +value);
  }
  return found;
}
function keep() {
  try { sessionStorage.setItem("luhuo-curve", JSON.stringify(ui)); } catch { /* a browser may forbid it; the page works without */ }
}
const t = (word) => (WORDS[word] || [word, word])[ui.lang === "zh" ? 1 : 0];
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) name === "style" ? node.style.cssText = value : node.setAttribute(name, value);
  node.append(...children);
  return node;
}
function short(x, digits = 3) {
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (size >= 1e4 || size < 1e-3) {
    for (const [unit, name] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) if (size >= unit) return +(x / unit).toPrecision(digits) + name;
    return x.toExponential(1).replace("e-", "e−");
  }
  return size >= 1000 ? Math.round(x).toLocaleString("en") : String(+x.toPrecision(digits));
}
function clock(seconds) {
  const s = Math.max(0, Math.round(seconds)), h = Math.floor(s / 3600), m = Math.floor(s / 60) % 60;
  const two = (x) => String(x).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s % 60)}` : m ? `${m}:${two(s % 60)}` : `${s} s`;
}
const xLabel = (x) => ui.axis === "seconds" ? clock(x) : short(x);
const colour = (i) => css(`--s${i % COLOURS}`);
const shown = () => data.runs.map((run, i) => ({run, i})).filter(({run}) => !ui.off.includes(run.name));

function smoothed(values, weight) {
  let sum = 0, mass = 0;
  return values.map((value) => { sum = weight * sum + (1 - weight) * value; mass = weight * mass + 1 - weight; return sum / mass; });
}
/** The mean of smoothing forwards and backwards, which does not lag behind a steep curve. */
function centred(values, weight) {
  const forwards = smoothed(values, weight), backwards = smoothed(values.slice().reverse(), weight).reverse();
  return forwards.map((value, k) => (value + backwards[k]) / 2);
}
const weightOf = (share) => Math.min(0.998, 1 - (1 - share / 100) ** 2);
function linearTicks(low, high, wanted) {
  const span = high - low || Math.abs(high) || 1, power = 10 ** Math.floor(Math.log10(span / wanted));
  const step = [1, 2, 2.5, 5, 10].map((f) => f * power).find((s) => s * wanted >= span), out = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * span; k++) out.push(+(k * step).toPrecision(12));
  return out;
}
function timeTicks(low, high, wanted) {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 240, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];
  const step = steps.find((s) => s * wanted >= high - low) || 86400 * Math.ceil((high - low) / 86400 / wanted), out = [];
  for (let x = Math.ceil(low / step) * step; x <= high; x += step) out.push(x);
  return out;
}
function logTicks(low, high, wanted) {
  const decades = Math.log10(high / low);
  if (decades < 0.7) return linearTicks(low, high, wanted).filter((x) => x > 0);
  const factors = decades < 3 ? [1, 2, 5] : [1], out = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high) + 1; e++) for (const f of factors) { const x = f * 10 ** e; if (x >= low * 0.999 && x <= high * 1.001) out.push(x); }
  const skip = Math.ceil(out.length / (wanted + 2));
  return out.filter((_, i) => i % skip === 0);
}

function linesOf(panel) {
  const lines = [], visible = shown();
  const names = [...new Set(visible.flatMap(({run}) => Object.keys(run.series)))].filter((key) => panel.keys ? panel.keys.includes(key) : panel.match.test(key));
  const order = panel.keys || names.sort((a, b) => a.length - b.length || (a < b ? -1 : 1));
  const present = order.filter((key) => names.includes(key));
  present.forEach((key, k) => visible.forEach(({run, i}) => {
    const series = run.series[key];
    if (!series || !series.value.length) return;
    const label = panel.named ? t(key) : panel.strip ? key.slice(panel.strip.length + 1) || t("all") : key;
    const single = visible.length === 1 && present.length > 1;
    lines.push({run: run.name, label, colour: colour(single ? k : i), dash: single ? [] : DASHES[k % DASHES.length],
      xs: series[ui.axis], ys: series.value, low: series.low, high: series.high, several: present.length > 1 || Boolean(panel.strip), events: run.events});
  }));
  return lines;
}
function inRange(x) { return x !== null && isFinite(x) && (!ui.range || (x >= ui.range[0] && x <= ui.range[1])) && (!ui.logx || x > 0); }

function layout(panel, canvas) {
  const lines = linesOf(panel), weight = panel.smooth ? weightOf(ui.smooth) : 0, logy = ui.logy && !panel.zero;
  let x0 = Infinity, x1 = -Infinity, y0 = Infinity, y1 = -Infinity;
  for (const line of lines) {
    line.smooth = weight > 0 && line.ys.length > 20 ? centred(line.ys, weight) : line.ys;
    line.xs.forEach((x, k) => {
      if (!inRange(x)) return;
      const y = line.smooth[k];
      x0 = Math.min(x0, x); x1 = Math.max(x1, x);
      if (!logy || y > 0) { y0 = Math.min(y0, y); y1 = Math.max(y1, y); }
    });
  }
  if (!(x0 <= x1) || !(y0 <= y1)) return null;
  if (ui.range) [x0, x1] = [Math.max(ui.range[0], ui.logx ? x0 : -Infinity), ui.range[1]];
  if (!ui.logx && !ui.range && x0 < 0.1 * x1) x0 = 0;
  if (x0 === x1) { x0 -= 0.5 * Math.abs(x0) || 1; x1 += 0.5 * Math.abs(x1) || 1; if (ui.logx) x0 = Math.max(x0, 1e-9); }
  if (panel.zero && !logy) y0 = Math.min(0, y0);
  if (logy) { const pad = (y1 / y0) ** 0.06 * 1.01; y1 *= pad; y0 /= pad; }
  else { const pad = 0.06 * (y1 - y0) || Math.abs(y1) * 0.1 || 1; y1 += pad; if (!(panel.zero && y0 === 0)) y0 -= pad; }
  const width = canvas.clientWidth, height = canvas.clientHeight, left = 52, right = 10, top = 10, bottom = 24;
  const scale = (log, low, high, from, to) => log
    ? (v) => from + (Math.log(v / low) / Math.log(high / low)) * (to - from) : (v) => from + ((v - low) / (high - low)) * (to - from);
  const X = scale(ui.logx, x0, x1, left, width - right), Y = scale(logy, y0, y1, height - bottom, top);
  const back = (px) => { const share = (px - left) / (width - left - right); return ui.logx ? x0 * (x1 / x0) ** share : x0 + share * (x1 - x0); };
  return {lines, x0, x1, y0, y1, X, Y, back, width, height, left, right, top, bottom, logy};
}

function draw(panel) {
  const {canvas, spec} = panel, ratio = window.devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * ratio; canvas.height = canvas.clientHeight * ratio;
  const g = canvas.getContext("2d"), view = panel.view = layout(spec, canvas);
  g.scale(ratio, ratio);
  if (!view) return;
  const {X, Y, width, height, left, right, top, bottom} = view, soft = css("--soft"), line = css("--line");
  g.font = "11px " + getComputedStyle(document.body).fontFamily;
  g.lineWidth = 1; g.fillStyle = soft;
  const wantedY = Math.max(3, Math.round(height / 42)), wantedX = Math.max(3, Math.round(width / 110));
  g.textAlign = "right"; g.textBaseline = "middle";
  for (const y of (view.logy ? logTicks : linearTicks)(view.y0, view.y1, wantedY)) {
    const at = Math.round(Y(y)) + 0.5;
    g.strokeStyle = line; g.beginPath(); g.moveTo(left, at); g.lineTo(width - right, at); g.stroke();
    g.fillText(spec.percent ? `${+(100 * y).toPrecision(3)}%` : short(y), left - 7, at);
  }
  g.textBaseline = "alphabetic";
  const ticksX = ui.logx ? logTicks : ui.axis === "seconds" ? timeTicks : linearTicks;
  for (const x of ticksX(view.x0, view.x1, wantedX)) {
    const text = xLabel(x), half = g.measureText(text).width / 2;
    g.textAlign = X(x) + half > width - 2 ? "right" : X(x) - half < left - 20 ? "left" : "center";
    g.fillText(text, g.textAlign === "right" ? width - 2 : X(x), height - 7);
    g.strokeStyle = line; g.beginPath(); g.moveTo(Math.round(X(x)) + 0.5, height - bottom); g.lineTo(Math.round(X(x)) + 0.5, height - bottom + 4); g.stroke();
  }
  g.save(); g.beginPath(); g.rect(left, top - 6, width - left - right, height - top - bottom + 6); g.clip();
  const ok = (x, y) => inRange(x) && (!view.logy || y > 0);
  for (const one of view.lines) {
    g.fillStyle = g.strokeStyle = one.colour; g.setLineDash([]);
    if (one.low) {
      g.globalAlpha = 0.13; g.beginPath();
      const places = one.xs.map((x, k) => k).filter((k) => ok(one.xs[k], one.low[k]));
      places.forEach((k, n) => g[n ? "lineTo" : "moveTo"](X(one.xs[k]), Y(one.high[k])));
      places.reverse().forEach((k) => g.lineTo(X(one.xs[k]), Y(one.low[k])));
      g.fill();
    } else if (one.smooth !== one.ys) { g.globalAlpha = 0.28; g.lineWidth = 1; path(g, one.xs, one.ys, X, Y, ok); }
    g.globalAlpha = 1; g.lineWidth = spec.wide === "full" ? 2 : 1.6; g.lineJoin = "round"; g.setLineDash(one.dash);
    path(g, one.xs, one.smooth, X, Y, ok);
    const few = one.xs.filter(inRange).length;
    if (few <= 40) { g.setLineDash([]); one.xs.forEach((x, k) => { if (ok(x, one.smooth[k])) { g.beginPath(); g.arc(X(x), Y(one.smooth[k]), few === 1 ? 3 : 2, 0, 7); g.fill(); } }); }
  }
  g.setLineDash([]);
  if (spec.marks) for (const {run} of shown()) for (const event of run.events) {
    const x = event[ui.axis];
    if (!inRange(x)) continue;
    const tint = {skip: "--warn", memory: "--warn", rollback: "--bad", stop: "--bad", resume: "--s1"}[event.kind] || "--soft";
    g.strokeStyle = g.fillStyle = css(tint); g.globalAlpha = 0.5; g.setLineDash([3, 3]); g.lineWidth = 1;
    g.beginPath(); g.moveTo(X(x), top); g.lineTo(X(x), height - bottom); g.stroke();
    g.globalAlpha = 1; g.beginPath(); g.moveTo(X(x) - 5, top - 6); g.lineTo(X(x) + 5, top - 6); g.lineTo(X(x), top + 3); g.fill();
    g.setLineDash([]);
  }
  if (panel.drag) {
    g.fillStyle = css("--accent"); g.globalAlpha = 0.12;
    g.fillRect(Math.min(...panel.drag), top, Math.abs(panel.drag[1] - panel.drag[0]), height - top - bottom);
  } else if (panel.hover) hover(g, panel);
  g.restore();
}
function path(g, xs, ys, X, Y, ok) {
  let begun = false;
  g.beginPath();
  xs.forEach((x, k) => { if (!ok(x, ys[k])) return; begun ? g.lineTo(X(x), Y(ys[k])) : g.moveTo(X(x), Y(ys[k])); begun = true; });
  g.stroke();
}
function nearest(xs, x) {
  let low = 0, high = xs.length - 1;
  while (low < high) { const mid = (low + high) >> 1; xs[mid] < x ? low = mid + 1 : high = mid; }
  return low && Math.abs(xs[low - 1] - x) < Math.abs(xs[low] - x) ? low - 1 : low;
}
function hover(g, panel) {
  const {view, tip, spec} = panel, x = view.back(panel.hover), rows = [];
  g.globalAlpha = 0.5; g.strokeStyle = css("--soft"); g.lineWidth = 1; g.setLineDash([]);
  g.beginPath(); g.moveTo(panel.hover, view.top); g.lineTo(panel.hover, view.height - view.bottom); g.stroke(); g.globalAlpha = 1;
  for (const line of view.lines) {
    const k = nearest(line.xs, x);
    if (!inRange(line.xs[k])) continue;
    g.fillStyle = line.colour; g.beginPath(); g.arc(view.X(line.xs[k]), view.Y(line.smooth[k]), 3.5, 0, 7); g.fill();
    const label = [data.runs.length > 1 ? line.run : "", line.several ? line.label : ""].filter(Boolean).join(" · ");
    const value = spec.percent ? `${(100 * line.ys[k]).toFixed(1)}%` : short(line.ys[k], 4);
    rows.push(element("div", {}, element("span", {class: "key", style: `--c:${line.colour}`}), label || t(spec.title), element("b", {}, value)));
  }
  tip.replaceChildren(element("div", {class: "soft"}, `${t(ui.axis)} ${xLabel(x)}`), ...rows.slice(0, 14));
  tip.style.display = "block";
  const place = panel.hover + 26 + tip.offsetWidth > view.width ? panel.hover - tip.offsetWidth - 4 : panel.hover + 26;
  tip.style.left = `${Math.max(0, place)}px`; tip.style.top = "46px";
}

function specs() {
  const known = (key) => HIDDEN.has(key) || PANELS.some((p) => p.keys ? p.keys.includes(key) : p.match.test(key));
  const keys = new Set(data.runs.flatMap((run) => Object.keys(run.series)));
  const extra = [...keys].filter((key) => !known(key)).sort().map((key) => ({id: key, title: key, keys: [key], smooth: true}));
  const found = [...PANELS, ...extra].filter((p) => [...keys].some((key) => p.keys ? p.keys.includes(key) : p.match.test(key)));
  const half = found.filter((p) => p.wide === "half");
  return found.map((p) => half.length % 2 && p === half[half.length - 1] ? {...p, wide: "full"} : p);
}
function build() {
  const wanted = specs(), same = panels.map((p) => p.spec.id + p.spec.wide).join() === wanted.map((p) => p.id + p.wide).join();
  if (!same) {
    panels = wanted.map((spec) => {
      const canvas = element("canvas", {tabindex: "0", role: "img"}), tip = element("div", {class: "tip"});
      const head = element("h3"), legend = element("div", {class: "legend"});
      const panel = {spec, canvas, tip, head, legend, node: element("div", {class: `chart ${spec.wide || ""}`, id: `chart-${spec.id}`}, element("div", {class: "top"}, head, legend), canvas, tip)};
      const at = (event) => event.clientX - canvas.getBoundingClientRect().left;
      canvas.addEventListener("pointermove", (event) => {
        busy = true; panel.hover = at(event);
        if (panel.drag) panel.drag[1] = panel.hover;
        draw(panel);
      });
      canvas.addEventListener("pointerleave", () => { busy = false; panel.hover = panel.drag = null; tip.style.display = "none"; draw(panel); });
      canvas.addEventListener("pointerdown", (event) => { if (event.pointerType === "mouse") panel.drag = [at(event), at(event)]; });
      canvas.addEventListener("pointerup", () => {
        const drag = panel.drag; panel.drag = null;
        if (drag && panel.view && Math.abs(drag[1] - drag[0]) > 6) { ui.range = drag.map(panel.view.back).sort((a, b) => a - b); tip.style.display = "none"; show(); }
      });
      canvas.addEventListener("dblclick", () => { ui.range = null; show(); });
      return panel;
    });
    $("charts").replaceChildren(...panels.map((p) => p.node));
  }
  for (const panel of panels) {
    const {spec, head, legend} = panel;
    head.replaceChildren(t(spec.title), spec.unit ? element("small", {}, ` · ${t(spec.unit)}`) : "");
    panel.canvas.setAttribute("aria-label", t(spec.title));
    const seen = new Map(), visible = shown().length;
    for (const line of linesOf(spec)) if (line.several) seen.set(line.label, line);
    legend.replaceChildren(...[...seen.values()].map((line) => {
      const mark = document.createElementNS("http://www.w3.org/2000/svg", "svg"), stroke = document.createElementNS("http://www.w3.org/2000/svg", "line");
      for (const [name, value] of Object.entries({x1: 0, x2: 22, y1: 4, y2: 4, stroke: visible > 1 ? css("--soft") : line.colour, "stroke-width": 2, "stroke-dasharray": line.dash.join(" ")})) stroke.setAttribute(name, value);
      mark.append(stroke);
      return element("span", {}, mark, line.label);
    }));
    draw(panel);
  }
}
function lastOf(run, key) { const s = run.series[key]; return s && s.value.length ? s.value[s.value.length - 1] : null; }
function runRow(run, i) {
  const box = element("input", {type: "checkbox"});
  box.checked = !ui.off.includes(run.name);
  box.addEventListener("change", () => { ui.off = box.checked ? ui.off.filter((name) => name !== run.name) : [...ui.off, run.name]; show(); });
  const total = run.facts.steps, losses = run.series.loss ? smoothed(run.series.loss.value, 0.9) : [];
  const left = total && run.state === "running" && run.place.step ? (run.place.seconds / run.place.step) * (total - run.place.step) : null;
  const figure = (value, name) => element("span", {}, element("b", {}, value ?? "–"), name);
  const bpb = lastOf(run, "valid_bpb"), speed = lastOf(run, "tokens_per_s"), mfu = lastOf(run, "mfu");
  const bar = total ? [element("progress", {max: total, value: run.place.step, "aria-label": t("step")})] : [];
  return element("div", {class: "run", style: `--c:var(--s${i % COLOURS})`},
    element("label", {}, box, element("span", {class: "key"}), element("div", {}, run.name), element("div", {class: `pill ${run.state}`}, t(run.state))),
    figure(run.place.step.toLocaleString("en"), total ? `${t("of")} ${total.toLocaleString("en")} ${t("steps")}` : t("steps")),
    figure(short(run.place.tokens), t("tokens")),
    figure(left === null ? clock(run.place.seconds) : clock(left), left === null ? t("seconds") : t("left")),
    figure(losses.length ? losses[losses.length - 1].toFixed(3) : null, t("lossnow")),
    figure(bpb === null ? null : bpb.toFixed(3), t("held")),
    figure(speed === null ? null : short(speed), mfu === null ? t("speed") : `${t("speed")} · MFU ${(100 * mfu).toFixed(0)}%`), ...bar);
}
function showSamples() {
  const runs = shown().filter(({run}) => run.samples.length), steps = [...new Set(runs.flatMap(({run}) => run.samples.map((s) => s.step)))].sort((a, b) => a - b);
  $("samples-part").hidden = !steps.length;
  if (!steps.length) return;
  const place = ui.at === null ? steps.length - 1 : Math.max(0, steps.findIndex((s) => s >= ui.at));
  const slider = element("input", {type: "range", min: 0, max: steps.length - 1, value: place, "aria-label": t("at")}), out = element("output"), grid = element("div", {class: "samples"});
  const fill = (k) => {
    out.textContent = `${t("step")} ${steps[k].toLocaleString("en")}`;
    grid.replaceChildren(...runs.flatMap(({run, i}) => {
      const past = run.samples.filter((s) => s.step <= steps[k]), newest = past.length ? past[past.length - 1].step : null;
      return past.filter((s) => s.step === newest).map((s) => element("div", {class: "sample text", style: `--c:var(--s${i % COLOURS})`},
        ...(data.runs.length > 1 ? [element("i", {}, `${run.name} · ${t("step")} ${s.step}\n`)] : []), element("b", {}, s.prompt), s.chat ? "\n" : "", s.text));
    }));
  };
  slider.addEventListener("input", () => { const k = +slider.value; ui.at = k === steps.length - 1 ? null : steps[k]; keep(); fill(k); });
  fill(place);
  $("samples").replaceChildren(element("div", {class: "row"}, slider, out), grid);
}
function showEvents() {
  const rows = shown().flatMap(({run, i}) => run.events.map((event) => ({run, i, event}))).sort((a, b) => b.event.at - a.event.at);
  $("events-part").hidden = !rows.length;
  $("events").replaceChildren(...rows.map(({run, i, event}) => element("tr", {},
    element("td", {class: "n"}, new Date(1000 * event.at).toLocaleString(ui.lang === "zh" ? "zh-CN" : "en-GB")),
    element("td", {class: "n"}, element("span", {class: "key", style: `--c:var(--s${i % COLOURS})`}), ` ${run.name}`),
    element("td", {class: "n"}, `${t("step")} ${event.step}`),
    element("td", {class: `k-${event.kind}`}, t(event.kind === "memory" ? "memory_event" : event.kind)),
    element("td", {}, event.message || ""))));
}
function choice(id, options, current, act) {
  $(id).replaceChildren(...options.map(([value, name]) => {
    const button = element("button", {type: "button", "aria-pressed": String(current(value))}, name);
    button.addEventListener("click", () => { act(value); show(); });
    return button;
  }));
}
function show() {
  keep();
  document.documentElement.lang = ui.lang === "zh" ? "zh-CN" : "en";
  const dark = ui.theme === "dark" || (ui.theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  $("title").textContent = data.title;
  document.querySelectorAll("[data-t]").forEach((node) => { node.textContent = t(node.dataset.t); });
  choice("lang", [["en", "English"], ["zh", "中文"]], (v) => v === ui.lang, (v) => { ui.lang = v; });
  choice("theme", ["auto", "light", "dark"].map((v) => [v, t(v)]), (v) => v === ui.theme, (v) => { ui.theme = v; });
  choice("axis", ["step", "tokens", "seconds"].map((v) => [v, t(v)]), (v) => v === ui.axis, (v) => { if (v !== ui.axis) ui.range = null; ui.axis = v; });
  choice("logs", ["logx", "logy"].map((v) => [v, t(v)]), (v) => ui[v], (v) => { ui[v] = !ui[v]; if (v === "logx") ui.range = null; });
  $("smooth").value = ui.smooth; $("smoothed").textContent = weightOf(ui.smooth).toFixed(2);
  $("reset").hidden = !ui.range;
  $("fresh").textContent = data.runs.some((run) => run.state === "running") ? `● ${t("fresh")}` : "";
  $("runs").replaceChildren(...data.runs.map(runRow));
  showSamples(); showEvents(); build();
}
async function refresh() {
  if (document.hidden || busy || !data.runs.some((run) => run.state === "running")) return;
  if (!location.protocol.startsWith("http")) { location.reload(); return; }
  try {
    const page = new DOMParser().parseFromString(await (await fetch(location.href, {cache: "no-store"})).text(), "text/html");
    data = JSON.parse(page.getElementById("data").textContent);
    show();
  } catch { $("fresh").textContent = "○"; }
}
$("smooth").addEventListener("input", () => { ui.smooth = +$("smooth").value; $("smoothed").textContent = weightOf(ui.smooth).toFixed(2); keep(); panels.forEach(draw); });
$("reset").addEventListener("click", () => { ui.range = null; show(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
window.addEventListener("resize", () => panels.forEach(draw));
show();
setInterval(refresh, 1000 * data.refresh_s);
