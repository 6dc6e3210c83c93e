"use strict";
// The page in the browser. All that the server sends is data: it becomes text, numbers and shapes, never markup.
(() => {
const $ = (id) => document.getElementById(id);
const runs = [];
const kColours = 10, kLines = 400;

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
}
const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const shape = (tag, attributes = {}, ...children) => fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

// Makes what a node holds what it is to hold, and touches nothing else: focus, selection, what was opened and the place of a screen
// reader stay. Buttons and images have listeners of their own and are put in whole.
function patch(old, wanted) {
  [...old.childNodes].slice(wanted.length).forEach((extra) => extra.remove());
  wanted.forEach((now, i) => {
    const before = old.childNodes[i];
    if (before === now) return;
    if (!before) old.append(now);
    else if (before.nodeName !== now.nodeName || ["BUTTON", "IMG"].includes(now.nodeName)) before.replaceWith(now);
    else if (now.nodeType === Node.TEXT_NODE) before.data === now.data || (before.data = now.data);
    else {
      for (const { name } of [...before.attributes]) if (!now.hasAttribute(name) && name !== "open") before.removeAttribute(name);
      for (const { name, value } of now.attributes) if (before.getAttribute(name) !== value) before.setAttribute(name, value);
      patch(before, [...now.childNodes]);
    }
  });
}
// The same where that is another thing than before.
const shown = new Map();
function show(node, key, build) {
  const text = JSON.stringify(key);
  if (shown.get(node) === text) return;
  shown.set(node, text);
  patch(node, build().map((part) => (typeof part === "string" ? document.createTextNode(part) : part)));
}

// ---- numbers

function num(object, ...path) {
  let at = object;
  for (const name of path) {
    if (at === null || typeof at !== "object" || !Object.hasOwn(at, name)) return null;
    at = at[name];
  }
  return typeof at === "number" && Number.isFinite(at) ? at : null;
}
function digits(v) {
  if (v === null) return "–";
  const size = Math.abs(v);
  return v.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : size >= 0.1 || v === 0 ? 3 : 4);
}
const signed = (v) => (v === null ? "–" : (v > 0 ? "+" : "") + digits(v));
const error = (e) => (e === null ? "" : " ± " + digits(e));
function duration(s) {
  if (s === null) return "?";
  if (s < 1) return Math.round(1000 * s) + " ms";
  if (s < 60) return (s < 10 ? s.toFixed(1) : Math.round(s)) + " s";
  if (s < 3600) return Math.floor(s / 60) + " min " + Math.round(s % 60) + " s";
  if (s < 86400) return Math.floor(s / 3600) + " h " + Math.round((s % 3600) / 60) + " min";
  return Math.floor(s / 86400) + " d " + Math.round((s % 86400) / 3600) + " h";
}

// ---- what the runs say

const nameOf = (run) => run.path.replace(/\/+$/, "").split("/").pop() || run.path;
const colour = (i) => `var(--c${i % kColours})`;
const estimate = (e, ...path) => ({ y: num(e, "metrics", ...path, "mean"), e: num(e, "metrics", ...path, "se") });
const warned = (run) => new Set(run.warnings.map((w) => w.update));

// The mean over prompts of the log ratio to the base; runs of earlier programs have the means alone.
function kept(run, e) {
  const logs = estimate(e, "diversity_log_ratio");
  if (logs.y !== null) return { y: 100 * Math.exp(logs.y), e: logs.e === null ? null : 100 * Math.exp(logs.y) * logs.e };
  const base = run.evaluations.length ? estimate(run.evaluations[0], "diversity").y : null;
  const now = estimate(e, "diversity"), change = estimate(e, "diversity_change");
  if (!base || now.y === null) return { y: null, e: null };
  return { y: (100 * now.y) / base, e: change.e === null ? null : (100 * change.e) / base };
}
// The reward's paired change in deviations of the base's rewards within a prompt: comparable between rewards.
function gain(run, e) {
  const sd = run.evaluations.length ? num(run.evaluations[0], "metrics", "reward_sd_within_prompt") : null;
  const change = estimate(e, "reward_change");
  if (!sd) return { y: null, e: null };
  if (change.y === null) return { y: e.update === 0 ? 0 : null, e: null };
  return { y: change.y / sd, e: change.e === null ? null : change.e / sd };
}
const last = (list) => list[list.length - 1];

// ---- charts

const kWidth = 420, kHeight = 280, kLeft = 58, kRight = 14, kTop = 34, kBottom = 42;
const charts = new Map();

function ticks(low, high, count) {
  const raw = (high - low) / count;
  if (!(raw > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw)), unit = raw / power;
  const step = power * (unit <= 1 ? 1 : unit <= 2 ? 2 : unit <= 5 ? 5 : 10), all = [];
  for (let t = Math.ceil(low / step) * step; t <= high + 1e-9 * step; t += step) all.push(Math.abs(t) < 1e-9 * step ? 0 : t);
  return all;
}
function extent(values) {
  let low = Infinity, high = -Infinity;
  for (const v of values) if (Number.isFinite(v)) [low, high] = [Math.min(low, v), Math.max(high, v)];
  if (low > high) return [0, 1];
  const pad = high > low ? 0.06 * (high - low) : high === 0 ? 1 : 0.1 * Math.abs(high);
  return [low - pad, high + pad];
}
const label = (v) => String(Number(v.toPrecision(6)));

function frame(chart, x, y) {
  const parts = [];
  for (const t of ticks(...chart.yRange, 5)) {
    const text = shape("text", { class: "tick", x: kLeft - 6, y: y(t) + 4, "text-anchor": "end" });
    text.textContent = label(t);
    parts.push(shape("line", { class: "grid", x1: kLeft, x2: kWidth - kRight, y1: y(t), y2: y(t) }), text);
  }
  for (const t of ticks(...chart.xRange, 6)) {
    const text = shape("text", { class: "tick", x: x(t), y: kHeight - kBottom + 16, "text-anchor": "middle" });
    text.textContent = label(t);
    parts.push(text);
  }
  const title = shape("text", { class: "title", x: 8, y: 18 }), xs = shape("text", { class: "tick", x: (kLeft + kWidth) / 2, y: kHeight - 8, "text-anchor": "middle" });
  const ys = shape("text", { class: "tick", transform: `translate(12,${kHeight / 2}) rotate(-90)`, "text-anchor": "middle" });
  title.textContent = chart.title;
  xs.textContent = chart.x;
  ys.textContent = chart.y;
  return [...parts, title, xs, ys];
}

function drawSeries(series, x, y) {
  const parts = [], points = series.points.filter((p) => p.y !== null && p.x !== null);
  const path = (list) => list.map(([a, b], i) => `${i ? "L" : "M"}${a.toFixed(1)},${b.toFixed(1)}`).join("");
  const cross = points.some((p) => p.ex);
  if (!cross && points.length > 1 && points.some((p) => p.e))
    parts.push(shape("path", { class: "band", fill: series.colour, d: path([...points.map((p) => [x(p.x), y(p.y + (p.e || 0))]), ...points.slice().reverse().map((p) => [x(p.x), y(p.y - (p.e || 0))])]) + "Z" }));
  for (const p of cross ? points : []) {
    if (p.e) parts.push(shape("line", { class: "bar", stroke: series.colour, x1: x(p.x), x2: x(p.x), y1: y(p.y - p.e), y2: y(p.y + p.e) }));
    if (p.ex) parts.push(shape("line", { class: "bar", stroke: series.colour, x1: x(p.x - p.ex), x2: x(p.x + p.ex), y1: y(p.y), y2: y(p.y) }));
  }
  if (points.length > 1) parts.push(shape("path", { class: series.dashed ? "line dashed" : "line", stroke: series.colour, d: path(points.map((p) => [x(p.x), y(p.y)])) }));
  for (const p of points) {
    if (series.dots || points.length === 1) parts.push(shape("circle", { fill: series.colour, cx: x(p.x), cy: y(p.y), r: 3.2 }));
    if (p.best) parts.push(shape("circle", { class: "ring", cx: x(p.x), cy: y(p.y), r: 7 }));
    if (p.warned) parts.push(shape("path", { class: "cross", d: `M${x(p.x) - 5},${y(p.y) - 5}l10,10m-10,0l10,-10` }));
    if (p.tag) {
      const text = shape("text", { class: "tick", x: x(p.x) + 8, y: y(p.y) - 6 });
      text.textContent = p.tag;
      parts.push(text);
    }
  }
  return parts;
}

// Places that the cursor visits, with what it says there: each point of a plane, each x of curves.
function stopsOf(chart, x, y) {
  const said = (s, p) => `${s.name} ${digits(p.y)}${error(p.e ?? null)}${p.best ? ", best before collapse" : ""}${p.warned ? ", warned of" : ""}`;
  if (chart.plane) {
    return chart.series.flatMap((s) => s.points.filter((p) => p.y !== null && p.x !== null).map((p) => ({
      x: x(p.x), y: y(p.y),
      text: `${s.name}, after ${p.update} updates: diversity ${digits(p.x)} %${error(p.ex ?? null)}, reward ${signed(p.y)}${error(p.e ?? null)} sd${p.best ? "; best before collapse" : ""}${p.warned ? "; warned of" : ""}`,
    })));
  }
  const at = new Map();
  for (const s of chart.series) for (const p of s.points) if (p.y !== null) at.set(p.x, [...(at.get(p.x) || []), said(s, p)]);
  return [...at.entries()].sort((a, b) => a[0] - b[0]).map(([v, texts]) => ({ x: x(v), text: `${chart.x} ${v}: ${texts.join(" · ")}` }));
}

function moveCursor(made, place) {
  made.place = place;
  made.svg.querySelectorAll(".cursor").forEach((c) => c.remove());
  const stop = place === null ? null : made.stops[Math.max(0, Math.min(made.stops.length - 1, place))];
  made.caption.textContent = stop ? stop.text : made.rest;
  if (!stop) return;
  made.svg.append(shape("line", { class: "cursor", x1: stop.x, x2: stop.x, y1: kTop, y2: kHeight - kBottom }));
  if (stop.y !== undefined) made.svg.append(shape("line", { class: "cursor", y1: stop.y, y2: stop.y, x1: kLeft, x2: kWidth - kRight }));
}

function nearest(made, event) {
  const box = made.svg.getBoundingClientRect(), px = ((event.clientX - box.left) / box.width) * kWidth, py = ((event.clientY - box.top) / box.height) * kHeight;
  let best = null, least = Infinity;
  made.stops.forEach((s, i) => {
    const far = Math.hypot(s.x - px, s.y === undefined ? 0 : s.y - py);
    if (far < least) [best, least] = [i, far];
  });
  return best;
}

function makeChart(id) {
  const made = { svg: shape("svg", { viewBox: `0 0 ${kWidth} ${kHeight}`, role: "img" }), caption: el("figcaption"), stops: [], place: null, rest: "" };
  made.figure = el("figure", { class: "chart", tabindex: "0", id: "chart-" + id }, made.svg, made.caption);
  made.svg.addEventListener("pointermove", (event) => moveCursor(made, nearest(made, event)));
  made.svg.addEventListener("pointerleave", () => moveCursor(made, null));
  made.figure.addEventListener("blur", () => moveCursor(made, null));
  made.figure.addEventListener("keydown", (event) => {
    const n = made.stops.length, at = made.place ?? (event.key === "ArrowLeft" ? n : -1);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: n - 1 }[event.key];
    if (event.key === "Escape") moveCursor(made, null);
    if (to === undefined || n === 0) return;
    event.preventDefault();
    made.caption.setAttribute("aria-live", "polite");
    moveCursor(made, Math.max(0, Math.min(n - 1, to)));
  });
  charts.set(id, made);
  return made;
}

function drawChart(id, chart) {
  const made = charts.get(id) || makeChart(id);
  const points = chart.series.flatMap((s) => s.points.filter((p) => p.y !== null && p.x !== null));
  chart.xRange = extent(points.flatMap((p) => [p.x - (p.ex || 0), p.x + (p.ex || 0)]));
  chart.yRange = extent(points.flatMap((p) => [p.y - (p.e || 0), p.y + (p.e || 0)]));
  const x = (v) => kLeft + ((v - chart.xRange[0]) / (chart.xRange[1] - chart.xRange[0])) * (kWidth - kLeft - kRight);
  const y = (v) => kHeight - kBottom - ((v - chart.yRange[0]) / (chart.yRange[1] - chart.yRange[0])) * (kHeight - kTop - kBottom);
  made.svg.replaceChildren(...frame(chart, x, y), ...chart.series.flatMap((s) => drawSeries(s, x, y)));
  const ends = chart.series.filter((s) => !s.dashed).map((s) => [s.name, last(s.points.filter((p) => p.y !== null))]).filter(([, p]) => p);
  made.rest = ends.length === 0 ? "nothing yet" : chart.note || "";
  made.svg.setAttribute("aria-label", `${chart.title}, ${chart.y} by ${chart.x}. Last: ${ends.map(([name, p]) => `${name} ${digits(p.y)}${error(p.e ?? null)}`).join(", ") || "nothing yet"}`);
  made.figure.setAttribute("aria-label", `chart: ${chart.title}. Arrow keys read its points`);
  made.stops = stopsOf(chart, x, y);
  moveCursor(made, made.place);
  return made.figure;
}

function rollouts() {
  return { title: "Reward of the rollouts, live", x: "update", y: "mean reward", series: runs.map((run, i) => ({
    name: nameOf(run), colour: colour(i), points: run.updates.map((u) => ({ x: u.update, y: num(u, "reward"), e: num(u, "sd") === null ? null : u.sd / Math.sqrt(run.batch * u.n) })) })) };
}
function fromEvaluations(title, unit, path, changePath, factor = 1) {
  const paired = runs.some((run) => run.evaluations.some((e) => estimate(e, ...changePath).y !== null));
  return { title, x: "update", y: paired ? `paired change of ${unit}` : unit, series: runs.map((run, i) => {
    const bad = warned(run);
    return { name: nameOf(run), colour: colour(i), dots: true, points: run.evaluations.map((e) => {
      const at = paired ? estimate(e, ...changePath) : estimate(e, ...path);
      const y = paired && at.y === null && e.update === 0 ? 0 : at.y;
      return { x: e.update, y: y === null ? null : factor * y, e: at.e === null ? null : factor * at.e, best: e.update === run.status.best, warned: bad.has(e.update) };
    }) };
  }) };
}
function distances(title, unit, name) {
  const series = runs.flatMap((run, i) => {
    const points = (which) => run.evaluations.map((e) => ({ x: e.update, y: num(e, "metrics", which), e: num(e, "metrics", which + "_se") }));
    return [{ name: nameOf(run), colour: colour(i), dots: true, points: points(name) }, { name: nameOf(run) + " floor", colour: colour(i), dashed: true, points: points(name + "_floor") }];
  });
  return { title, x: "update", y: unit, series, note: "dashed: the base against itself" };
}
function plane() {
  return { title: "Reward against diversity", plane: true, x: "diversity kept, %", y: "reward's change, sd within a prompt", note: "ring: best before collapse; cross: a warning speaks against it",
    series: runs.map((run, i) => {
      const bad = warned(run);
      return { name: nameOf(run), colour: colour(i), dots: true, points: run.evaluations.map((e) => {
        const d = kept(run, e), r = gain(run, e), best = e.update === run.status.best;
        return { x: d.y, ex: d.e, y: r.y, e: r.e, update: e.update, best, warned: bad.has(e.update), tag: best ? `best, ${e.update}` : String(e.update) };
      }) };
    }) };
}
function losses() {
  const names = [...new Set(runs[0].updates.flatMap((u) => Object.keys(u.loss)))];
  return { title: "Losses", x: "update", y: "loss", series: names.map((name, i) => ({ name, colour: colour(i), points: runs[0].updates.map((u) => ({ x: u.update, y: num(u, "loss", name) })) })), note: names.map(String).join(", ") };
}

function renderCharts() {
  const words = [...new Set(runs.flatMap((run) => run.evaluations.map((e) => e.prompts)))].join(", ") || "prompts";
  const wanted = [["live", rollouts()], ["reward", fromEvaluations("Reward, " + words, "reward", ["reward"], ["reward_change"])], ["plane", plane()]];
  if (runs.some((run) => run.evaluations.some((e) => estimate(e, "judge_accuracy").y !== null)))
    wanted.push(["judge", fromEvaluations("Judge accuracy", "accuracy, %", ["judge_accuracy"], ["judge_change"], 100)]);
  const panel = new Set(runs.flatMap((run) => run.evaluations.flatMap((e) => (e.metrics && typeof e.metrics.panel === "object" && e.metrics.panel ? Object.keys(e.metrics.panel) : []))));
  for (const name of [...panel].slice(0, 12)) wanted.push(["panel-" + name, fromEvaluations(`Panel: ${name}, not trained on`, "score", ["panel", name], ["panel", name, "change"])]);
  wanted.push(["diversity", fromEvaluations("Diversity", "feature variance", ["diversity"], ["diversity_change"])], ["fd", distances("Fréchet distance to the base", "FD", "fd")], ["kid", distances("KID to the base", "KID", "kid")]);
  if (runs.length === 1) wanted.push(["losses", losses()]);
  const figures = wanted.map(([id, chart]) => drawChart(id, chart));
  const there = [...$("charts").children];
  if (there.length !== figures.length || figures.some((figure, i) => figure !== there[i])) $("charts").replaceChildren(...figures);
}

// ---- the parts of the page

function tile(term, value, note) {
  return el("div", {}, el("dt", {}, term), el("dd", {}, value, el("small", {}, note)));
}
function renderRuns() {
  show($("runs"), runs.map((r) => [r.path, r.method, r.reward, r.status, r.evaluations.length, r.warnings.length, last(r.evaluations) || null, last(r.updates) || null, r.problem]), () => runs.map((run, i) => {
    const s = run.status, now = last(run.evaluations), first = run.evaluations[0], tiles = [];
    const live = last(run.updates);
    if (live) tiles.push(tile("reward, rollouts", digits(num(live, "reward")), `± ${digits(num(live, "sd"))} sd`));
    if (now) {
      const g = gain(run, now), r = estimate(now, "reward"), k = kept(run, now), j = estimate(now, "judge_accuracy"), jc = estimate(now, "judge_change");
      tiles.push(tile("reward, " + now.prompts, g.y === null ? digits(r.y) : signed(g.y) + " sd", `${error(g.e).trim()} after ${now.update}; ${digits(r.y)}`.trim()));
      if (j.y !== null) tiles.push(tile("judge accuracy", digits(100 * j.y) + " %", jc.y === null ? "" : signed(100 * jc.y) + error(jc.e === null ? null : 100 * jc.e)));
      tiles.push(tile("diversity kept", k.y === null ? "–" : Math.round(k.y) + " %", error(k.e).trim()));
      tiles.push(tile("FD to base", digits(num(now, "metrics", "fd")), "floor " + digits(num(first, "metrics", "fd_floor"))));
    }
    if (s.best !== null) tiles.push(tile("best so far", "update " + s.best, "nothing speaks against it"));
    const facts = [`update ${s.update} of ${s.of}`];
    if (s.seconds) facts.push(duration(s.seconds) + " each");
    if (s.left !== null) facts.push(duration(s.left) + " left");
    if (s.memory !== null) facts.push(s.memory.toFixed(1) + " GiB");
    if (s.device !== null) facts.push(s.device.toFixed(1) + " GiB at most on the device");
    const swatch = el("span", { class: "swatch" });
    swatch.style.background = colour(i);
    return el("article", { class: "card", "aria-label": "run " + nameOf(run) },
      el("div", { class: "top" }, swatch, el("h3", {}, nameOf(run)), el("span", { class: "badge " + s.state }, s.state)),
      el("p", { class: "sub" }, run.problem ? run.path : `${run.method} on ${run.reward} · ${run.path}`),
      el("progress", { max: Math.max(1, s.of), value: s.update, "aria-label": "updates done" }),
      el("p", { class: "sub" }, facts.join(" · ")), el("dl", { class: "tiles" }, ...tiles));
  }));
}

function renderWarnings() {
  const all = runs.flatMap((run) => run.warnings.map((w) => [nameOf(run), w.update, w.text]));
  $("warnings-section").hidden = all.length === 0;
  show($("warnings"), all, () => {
    const boxes = all.slice().reverse().map(([name, update, text]) => el("div", { class: "box warn" }, text, el("div", { class: "sub" }, `${name}, after ${update} updates`)));
    return boxes.length <= 3 ? boxes : [...boxes.slice(0, 3), el("details", {}, el("summary", {}, `${boxes.length - 3} earlier ones`), ...boxes.slice(3))];
  });
}

function renderLegend() {
  show($("legend"), runs.map(nameOf), () => (runs.length < 2 ? [] : runs.map((run, i) => {
    const swatch = el("span", { class: "swatch" });
    swatch.style.background = colour(i);
    return el("span", {}, swatch, nameOf(run));
  })));
}

function renderTable() {
  const rows = runs.flatMap((run) => run.evaluations.map((e) => [run, e]));
  const panel = [...new Set(rows.flatMap(([, e]) => (e.metrics && typeof e.metrics.panel === "object" && e.metrics.panel ? Object.keys(e.metrics.panel) : [])))].slice(0, 12);
  show($("evaluations"), rows.map(([run, e]) => [run.path, e, run.status.best, warned(run).has(e.update)]), () => {
    const heads = ["run", "update", "reward", "change", "judge, %", "diversity", "kept, %", "FD", "KID", ...panel, "note"];
    const body = rows.map(([run, e]) => {
      const r = estimate(e, "reward"), c = estimate(e, "reward_change"), j = estimate(e, "judge_accuracy"), d = estimate(e, "diversity"), k = kept(run, e);
      const best = e.update === run.status.best;
      const cells = [nameOf(run), e.update, digits(r.y) + error(r.e), signed(c.y) + error(c.e), j.y === null ? "–" : digits(100 * j.y), digits(d.y) + error(d.e), k.y === null ? "–" : Math.round(k.y), digits(num(e, "metrics", "fd")), digits(num(e, "metrics", "kid")),
        ...panel.map((name) => digits(num(e, "metrics", "panel", name, "mean"))), best ? "best before collapse" : warned(run).has(e.update) ? "warned of" : ""];
      return el("tr", { class: best ? "best" : null }, ...cells.map((c, i) => (i === 0 ? el("th", { scope: "row" }, String(c)) : el("td", {}, String(c)))));
    });
    return [el("thead", {}, el("tr", {}, ...heads.map((h) => el("th", { scope: "col" }, h)))), el("tbody", {}, ...body)];
  });
}

function renderSettings() {
  const keys = new Map();
  for (const run of runs) for (const s of run.settings) keys.set(s.key, s.default);
  show($("settings"), runs.map((run) => [run.path, run.settings, run.problem]), () => {
    const value = (run, key) => (run.problem ? "?" : (run.settings.find((s) => s.key === key) || { value: keys.get(key) }).value);
    const problems = runs.filter((run) => run.problem).map((run) => el("caption", {}, `${nameOf(run)}: ${run.problem}`));
    return [...problems, el("thead", {}, el("tr", {}, ...["setting", "default", ...runs.map(nameOf)].map((h) => el("th", { scope: "col" }, h)))),
      el("tbody", {}, ...[...keys.keys()].map((key) => el("tr", {}, el("th", { scope: "row" }, key), el("td", {}, keys.get(key)), ...runs.map((run) => el("td", {}, value(run, key))))))];
  });
}

async function copy(button, code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "copied";
  } catch {
    getSelection().selectAllChildren(code);
    button.textContent = "selected";
  }
  setTimeout(() => (button.textContent = "copy"), 2000);
}
function renderResume() {
  show($("resume"), runs.map((run) => [run.path, run.resume, run.status.state]), () => runs.map((run) => {
    const code = el("code", {}, run.resume || "no command: " + run.problem), button = el("button", { type: "button", "aria-label": "copy the command for " + nameOf(run) }, "copy");
    button.addEventListener("click", () => copy(button, code));
    const note = { running: "It runs now; after it was stopped:", finished: "It is finished; with a larger updates=… it goes on:" }[run.status.state] || "From its last checkpoint:";
    return el("div", { class: "box" }, el("div", { class: "sub" }, `${nameOf(run)}. ${note}`), el("div", { class: "command" }, code, run.resume ? button : null));
  }));
}

// ---- images

const pictures = new Map();
let chosenUpdate = null;  // null: the latest

function choices(select, names, old) {
  show(select, names, () => names.map((name, i) => el("option", { value: i }, name)));
  const kept = Math.max(0, Math.min(names.length - 1, old));
  if (select.selectedIndex !== kept) select.selectedIndex = kept;
}
function picture(run, update) {
  const url = `grid?run=${run}&update=${update}`;
  if (!pictures.has(url)) {
    if (pictures.size > 200) pictures.clear();
    const image = new Image();
    image.addEventListener("load", renderImages);
    image.src = url;
    pictures.set(url, image);
  }
  return pictures.get(url);
}
function cellOf(run, image, place) {
  const count = run.captions.length, columns = run.columns, gap = 2;
  if (!count || !columns) return [0, 0, image.naturalWidth, image.naturalHeight];
  const rows = Math.ceil(count / columns), w = (image.naturalWidth - gap) / columns - gap, h = (image.naturalHeight - gap) / rows - gap;
  return [gap + (place % columns) * (w + gap), gap + Math.floor(place / columns) * (h + gap), w, h];
}
function drawCell(canvas, run, image, place, words) {
  canvas.setAttribute("aria-label", words);
  if (!image.complete || !image.naturalWidth) return;
  const [x, y, w, h] = cellOf(run, image, place);
  if (!(w >= 1 && h >= 1)) return;
  [canvas.width, canvas.height] = [w, h];
  canvas.style.imageRendering = w < 200 ? "pixelated" : "auto";
  canvas.getContext("2d").drawImage(image, x, y, w, h, 0, 0, w, h);
}
function renderImages() {
  $("images-section").hidden = !runs.some((run) => run.grids.length);
  if ($("images-section").hidden) return;
  choices($("image-run"), runs.map(nameOf), $("image-run").selectedIndex);
  $("image-run-label").hidden = runs.length < 2;
  const at = Math.max(0, $("image-run").selectedIndex), run = runs[at];
  choices($("image-prompt"), run.captions.length ? run.captions : ["all"], $("image-prompt").selectedIndex);
  const slider = $("image-slider"), grids = run.grids;
  if (!grids.length) return;
  const place = chosenUpdate === null || !grids.includes(chosenUpdate) ? grids.length - 1 : grids.indexOf(chosenUpdate);
  slider.max = grids.length - 1;
  slider.value = place;
  const update = grids[place], best = update === run.status.best ? ", best before collapse" : "";
  const words = update === 0 ? "0 updates (base)" : `${update} updates${best}`;
  slider.setAttribute("aria-valuetext", "after " + words);
  $("image-update").textContent = words;
  $("cell-caption").textContent = $("grid-caption").textContent = "after " + words;
  const prompt = Math.max(0, $("image-prompt").selectedIndex), caption = run.captions[prompt] || "all prompts";
  const before = picture(at, grids[0]), after = picture(at, update);
  drawCell($("cell-before"), run, before, prompt, caption + ", base");
  drawCell($("cell-after"), run, after, prompt, `${caption}, after ${words}`);
  for (const [id, image] of [["grid-before", before], ["grid-after", after]]) if ($(id).src !== image.src) $(id).src = image.src;
}

// ---- buttons

let buttons = null;
async function press(name, body = {}) {
  try {
    const reply = await fetch(name, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    $("buttons-said").textContent = reply.ok ? "" : await reply.text();
    return reply.ok;
  } catch {
    $("buttons-said").textContent = "the run does not answer";
    return false;
  }
}
function sampleCard(s) {
  const heading = el("h3", {}, s.prompt || "(empty prompt)"), note = `seed ${s.seed}`;
  if (s.state !== "drawn") return el("article", { class: "card" }, heading, el("p", { class: "sub" }, s.state === "failed" ? `${note}: ${s.why}` : `${note}: drawn after this update`));
  const shot = (which, words) => {
    const image = el("img", { src: `sample?number=${s.number}&image=${which}`, alt: `${s.prompt}, ${words}` });
    image.addEventListener("load", () => (image.style.imageRendering = image.naturalWidth < 200 ? "pixelated" : "auto"));
    return el("figure", {}, image, el("figcaption", {}, words));
  };
  return el("article", { class: "card" }, heading, el("p", { class: "sub" }, note), el("div", { class: "pair" }, shot("base", "base"), shot("aligned", `after ${s.update} updates`)));
}
function renderButtons() {
  $("buttons-section").hidden = !buttons;
  if (!buttons) return;
  const over = runs[0].status.state !== "running" && runs[0].status.state !== "waiting";
  $("save").disabled = buttons.saves || over;
  $("save").textContent = buttons.saves ? "saves after this update" : "save now";
  $("stop").disabled = buttons.stops || over;
  $("stop").textContent = buttons.stops ? "stops after this update" : "stop after this update";
  $("sample").disabled = over;
  if (buttons.saved >= 0) $("buttons-said").textContent = `saved after ${buttons.saved} updates`;
  show($("samples"), buttons.samples, () => buttons.samples.slice().reverse().map(sampleCard));
}
$("sample-form").addEventListener("submit", (event) => {
  event.preventDefault();
  press("sample", { prompt: $("sample-prompt").value, seed: Number($("sample-seed").value) });
});
$("save").addEventListener("click", () => press("save"));
$("stop").addEventListener("click", () => press("stop"));

// ---- log

function renderLog() {
  choices($("log-run"), runs.map(nameOf), $("log-run").selectedIndex);
  $("log-run-label").hidden = runs.length < 2;
  const log = $("log"), lines = (runs[Math.max(0, $("log-run").selectedIndex)] || { lines: [] }).lines;
  const follows = log.scrollTop + log.clientHeight >= log.scrollHeight - 30;
  const text = lines.join("\n");
  if (log.textContent === text) return;
  log.textContent = text;
  if (follows) log.scrollTop = log.scrollHeight;
}

// ---- news

let waiting = false;
function render() {
  waiting = false;
  if (runs.length === 0 || runs.includes(undefined)) return;
  for (const part of [renderRuns, renderButtons, renderWarnings, renderLegend, renderCharts, renderImages, renderTable, renderSettings, renderResume, renderLog]) part();
  const run = runs[0];
  document.title = `${run.status.update}/${run.status.of} ${nameOf(run)} – vggflow`;
}
function renderSoon() {
  if (waiting) return;
  waiting = true;
  setTimeout(render, 100);
}

// What a screen reader says of its own accord: states, evaluations and warnings, not every update.
function add(news) {
  const at = news.run, old = runs[at];
  if (news.anew) {
    runs[at] = news;
    for (const url of [...pictures.keys()]) if (url.startsWith(`grid?run=${at}&`)) pictures.delete(url);
  } else {
    for (const list of ["updates", "evaluations", "warnings", "lines"]) old[list].push(...news[list]);
    old.grids = [...new Set([...old.grids, ...news.grids])].sort((a, b) => a - b);
    old.lines.splice(0, old.lines.length - kLines);
    const before = old.status.state, words = [];
    old.status = news.status;
    if (before !== old.status.state) words.push(`${nameOf(old)} is ${old.status.state}`);
    for (const e of news.evaluations) words.push(`${nameOf(old)}, after ${e.update} updates: reward ${digits(estimate(e, "reward").y)}, diversity ${digits(estimate(e, "diversity").y)}`);
    for (const w of news.warnings) words.push(`warning of ${nameOf(old)}: ${w.text}`);
    if (words.length) $("spoken").textContent = words.join(". ");
  }
  renderSoon();
}

let source = null;
function connect() {
  source = new EventSource("events");
  source.onopen = () => {
    $("connection").className = "";
    $("connection").textContent = "live";
  };
  source.onmessage = (event) => {
    const news = JSON.parse(event.data);
    if (news.buttons) [buttons] = [news.buttons, renderSoon()];
    else if (news.run === undefined) [runs.length, buttons] = [news.runs, null];
    else add(news);
  };
  source.onerror = () => {
    $("connection").className = "lost";
    $("connection").textContent = "connection lost, trying again";
    if (source.readyState !== EventSource.CLOSED) return;
    source = null;
    setTimeout(() => source || document.hidden || connect(), 3000);
  };
}
// A browser keeps six connections to one place: pages that nobody looks at give theirs back.
document.addEventListener("visibilitychange", () => {
  if (document.hidden && source) {
    source.close();
    source = null;
  } else if (!document.hidden && !source) {
    connect();
  }
});

for (const id of ["image-run", "image-prompt"]) $(id).addEventListener("change", renderImages);
$("image-slider").addEventListener("input", () => {
  const run = runs[Math.max(0, $("image-run").selectedIndex)], place = Number($("image-slider").value);
  chosenUpdate = place === run.grids.length - 1 ? null : run.grids[place];
  renderImages();
});
$("log-run").addEventListener("change", renderLog);
connect();
})();
