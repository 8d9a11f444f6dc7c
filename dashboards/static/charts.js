// One renderer a chart type; each draws any card of that type from its columns and rows.
import * as format from "./format.js";

// Okabe and Ito's palette, told apart also by those who see no red or green; brighter blues on dark ground.
const LIGHT = ["#009e73", "#0072b2", "#56b4e9", "#d55e00", "#e69f00", "#8d97a6", "#cc79a7", "#b5a300"];
const DARK = ["#1fb98c", "#4c9fe0", "#8fd0f5", "#f0793a", "#f2b63c", "#8792a2", "#dd94bd", "#f0e442"];
let order = [];
const charts = new Map();

export function setSegments(names) { order = names; }
export function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}
/** A segment's colour, everywhere the same; undefined for what is no segment. */
export function segmentColor(name) {
  const place = order.indexOf(name);
  return place < 0 ? undefined : (isDark() ? DARK : LIGHT)[place % LIGHT.length];
}
function seriesColor(name, index) {
  return segmentColor(name) ?? (isDark() ? ["#42b8a7", "#f2b63c", "#8fd0f5"] : ["#0b6e63", "#e69f00", "#56b4e9"])[index % 3];
}
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") node.className = value; else if (value !== undefined && value !== null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** Let a parent have these children, moving only what must move: what has the keyboard's focus keeps it, and stays until
    the focus has left it even where it is no longer wanted. */
export function place(parent, nodes) {
  const held = document.activeElement, wanted = new Set(nodes);
  for (const child of [...parent.children]) {
    delete child.dataset.gone;
    if (wanted.has(child)) continue;
    if (!child.contains(held)) { child.remove(); continue; }
    child.dataset.gone = "";
    held.addEventListener("blur", () => { if ("gone" in child.dataset) child.remove(); }, { once: true });
  }
  nodes.forEach((node, n) => { if (parent.children[n] !== node) parent.insertBefore(node, parent.children[n] ?? null); });
  if (held !== document.activeElement && held.isConnected) held.focus({ preventScroll: true });
}

export function draw(card, body, rows) {
  const figures = { bar: 1, matrix: 2 }[card.chart];
  if (!rows.length && card.chart !== "scalar") return empty(card, body, EMPTY[card.name] ?? "No data yet");
  const time = card.chart === "bar" && card.columns[0].type.startsWith("timestamp");
  if (figures && !rows.some((row) => row[figures])) return empty(card, body, time ? "No invoices in this period" : "No data yet");
  if (["line", "area"].includes(card.chart) && !rows.some((row) => row.slice(1).some((v) => typeof v === "number" && v))) {
    return empty(card, body, "No invoices in this period");
  }
  if (["line", "area"].includes(card.chart) && new Set(rows.map((row) => row[0])).size < 2) {
    return empty(card, body, "Collecting data");
  }
  (time ? columns : RENDERERS[card.chart])(card, body, rows);
}
const EMPTY = {
  quarantine: "The quarantine is empty: every record was applied",
  top_rules: "No rules yet: the nightly job has not run",
  rule_drift: "No changes: there is no earlier run, or it found the same rules",
  at_risk: "No customers at risk",
  newest_moves: "No moves yet",
};

export function empty(card, body, words, isError = false) {
  forget(card, body);
  body.replaceChildren(make("div", { class: isError ? "empty error" : "empty" }, words));
}
function forget(card, body) {
  charts.get(card.name)?.dispose();
  charts.delete(card.name);
  if (body.dataset.drawn) { delete body.dataset.drawn; body.replaceChildren(); }
}
/** The card's own element of that class, made anew only if another kind of thing is there now. */
function keep(card, body, kind, build) {
  if (body.dataset.drawn !== kind) { forget(card, body); body.replaceChildren(build()); body.dataset.drawn = kind; }
  return body.firstElementChild;
}
export function redrawAll(redraw) {
  for (const chart of charts.values()) chart.dispose();
  charts.clear();
  redraw();
}
export function resizeAll() { for (const chart of charts.values()) chart.resize(); }

function scalar(card, body, rows) {
  const list = keep(card, body, "figures", () => make("dl", { class: "figures" }, ...card.columns.map((column) =>
    make("div", { class: "figure", "data-column": column.name, "data-unit": column.unit }, make("dt", {}, format.caption(column.name)), make("dd")))));
  card.columns.forEach((column, i) => {
    const value = rows[0]?.[i];
    const [figure, unit] = format.measure(value, column.unit, {
      short: column.unit === "currency" || Math.abs(value) >= 1e9, digits: Number.isInteger(value) || Math.abs(value) >= 100 ? 0 : 1,
    });
    const shown = list.children[i].querySelector("dd");
    shown.replaceChildren(figure, ...(unit ? [make("small", {}, unit)] : []));
    shown.title = typeof value === "number" ? format.text(value, column.unit) : "";
    if (typeof value === "number") shown.dataset.value = value;
  });
}

function bar(card, body, rows) {
  const list = keep(card, body, "bars", () => make("div", { class: "bars" }));
  const [name, value] = card.columns, changeAt = card.columns.findIndex((c) => c.name.startsWith("change"));
  const most = Math.max(...rows.map((row) => Math.abs(row[1] ?? 0)), 0);
  // Segments stand in the order of their definition: bars that overtake one another would jump each second.
  if (rows.every((row) => order.includes(row[0]))) rows = [...rows].sort((a, b) => order.indexOf(a[0]) - order.indexOf(b[0]));
  const known = new Map([...list.children].map((node) => [node.dataset.key, node]));
  const nodes = rows.map((row) => {
    const key = String(row[0] ?? "");
    const node = known.get(key) ?? make("div", { class: "row", "data-key": key },
      make("span", { class: "name" }), make("div", { class: "track" }, make("div", { class: "fill" })), make("span", { class: "value" }));
    const [label, track, figure] = node.children, shown = format.text(row[1], value.unit, { short: value.unit === "currency" });
    label.textContent = label.title = name.type === "text" ? key.replaceAll("_", " ") : key;
    track.firstElementChild.style.width = `${most ? (100 * Math.abs(row[1] ?? 0)) / most : 0}%`;
    track.firstElementChild.style.background = segmentColor(key) ?? "";
    track.firstElementChild.classList.toggle("none", !row[1]);
    figure.dataset.value = row[1];
    figure.replaceChildren(shown, ...(changeAt > 0 ? [change(row[changeAt])] : []));
    track.title = card.columns.slice(1).map((c, i) => `${format.caption(c.name)}: ${detail(row[i + 1], c)}`).join("\n");
    return node;
  });
  place(list, nodes);
}
function change(value) {
  if (!value) return make("span", { class: "change" }, value === null ? "" : "·");
  return make("span", { class: "change" }, `${value > 0 ? "▲" : "▼"} ${format.count(Math.abs(value))}`);
}

function detail(value, column) {
  if (value === null) return "—";
  if (column.type === "timestamptz") return format.moment(value);
  if (column.type === "timestamp" || column.type === "date") return format.local(value);
  return format.text(value, column.unit);
}

function matrix(card, body, rows) {
  const [down, across, value] = card.columns;
  const rowNames = [...new Set(rows.map((row) => row[0]))], columnNames = [...new Set(rows.map((row) => row[1]))];
  const grid = keep(card, body, "heat", () => make("div", { class: "heat" }));
  grid.style.setProperty("--columns", columnNames.length);
  const most = Math.max(...rows.map((row) => row[2] ?? 0), 0);
  const at = new Map(rows.map((row) => [`${row[0]} ${row[1]}`, row]));
  const nodes = [];
  for (const r of rowNames) {
    nodes.push(make("span", { class: "label" }, String(r)));
    for (const c of columnNames) {
      const row = at.get(`${r} ${c}`), amount = row?.[2] ?? 0, strength = most ? amount / most : 0;
      const cell = make("span", { class: "cell" }, format.compact(amount));
      cell.style.setProperty("--strength", strength.toFixed(3));
      if (!amount) cell.classList.add("nothing");
      cell.title = `${format.caption(down.name)} ${r}, ${format.caption(across.name).toLowerCase()} ${c}: ${format.text(amount, value.unit)} ${value.unit ? "" : value.name}`;
      nodes.push(cell);
    }
  }
  nodes.push(make("span"), ...columnNames.map((c) => make("span", { class: "label bottom" }, String(c))));
  nodes.push(make("span", { class: "axis" }, `↑ ${format.caption(down.name)} · ${format.caption(across.name)} →`));
  grid.replaceChildren(...nodes);
}

function table(card, body, rows) {
  const wrap = keep(card, body, "table", () => tableBox(card.title));
  fillTable(wrap.firstElementChild, card.columns, rows);
}
const NUMBERS = new Set(["smallint", "integer", "bigint", "numeric", "double precision"]);

/** What makes a row the same row at the next answer: its words and moments. Its figures and dates may change. */
const SAME = new Set(["text", "text[]", "timestamptz"]);
function keysOf(columnsOf, rows) {
  const seen = new Map();
  return rows.map((row) => {
    const key = JSON.stringify(row.filter((_, i) => SAME.has(columnsOf[i].type))), times = seen.get(key) ?? 0;
    seen.set(key, times + 1);
    return times ? `${key} ${times}` : key;
  });
}

/** Fill a table element, row by row; new ones light up, unless so many are new that everything would. */
export function fillTable(element, columnsOf, rows) {
  const [head, tbody] = [element.tHead, element.tBodies[0]];
  if (!head.rows.length) {
    head.append(make("tr", { role: "row" }, ...columnsOf.map((c) => make("th", { class: NUMBERS.has(c.type) ? "number" : "", scope: "col", role: "columnheader" }, captionOf(c)))));
  }
  const digits = columnsOf.map((c, i) => format.digitsOf(rows.map((row) => row[i]), c.type, c.unit));
  const before = new Map([...tbody.rows].map((row) => [row.dataset.key, row])), keys = keysOf(columnsOf, rows);
  const quiet = keys.filter((key) => before.has(key)).length < rows.length / 2;
  place(tbody, rows.map((row, n) => {
    const cells = row.map((value, i) => cell(value, columnsOf[i], digits[i])), known = before.get(keys[n]);
    if (!known) return make("tr", { role: "row", "data-key": keys[n], class: quiet ? "" : "flash" }, ...cells);
    cells.forEach((node, i) => { if (!known.cells[i].isEqualNode(node)) known.cells[i].replaceWith(node); });
    return known;
  }));
}

/** A table (with roles: stacked on a phone it would lose its own) in a box that scrolls where it is too wide; the keyboard reaches the box then. */
export function tableBox(name) {
  const box = make("div", { class: "scroll", role: "group", "aria-label": name }, make("table", { role: "table" }, make("thead", { role: "rowgroup" }), make("tbody", { role: "rowgroup" })));
  new ResizeObserver(() => { if (box.scrollWidth > box.clientWidth) box.tabIndex = 0; else box.removeAttribute("tabindex"); }).observe(box);
  return box;
}
const SHORT = new Set(["cause", "change", "stock_code", "scores"]);  // never broken into two lines
const captionOf = (column) => column.caption ?? format.caption(column.name);

/** A cell with its role and its column's name: on a phone a row is stacked, and no longer a table's row by itself. */
function cell(...what) {
  const node = plainCell(...what);
  node.role = "cell";
  node.dataset.label = captionOf(what[1]);
  return node;
}
function plainCell(value, column, digits) {
  if (value === null) {
    const words = column.name === "from_segment" ? "new" : "—";
    return make("td", { class: `nothing ${NUMBERS.has(column.type) ? "number" : ""}` }, words);
  }
  if (NUMBERS.has(column.type)) return make("td", { class: "number" }, format.text(value, column.unit, { digits }));
  if (column.type === "timestamptz") return make("td", { class: "time" }, format.moment(value));
  if (column.type === "timestamp" || column.type === "date") return make("td", { class: "time" }, format.local(value));
  if (column.name === "customer_id") {
    return make("td", {}, make("a", { class: "customer-link", href: `#/customer/${encodeURIComponent(value)}` }, value));
  }
  const color = segmentColor(value);
  if (color) { const node = make("td", {}, make("span", { class: "segment" }, value)); node.firstChild.style.setProperty("--segment", color); return node; }
  return make("td", { class: column.name === "invoice" ? "code" : SHORT.has(column.name) ? "time" : "" }, Array.isArray(value) ? value.join(" + ") : String(value));
}

function plot(card, body, options) {
  const box = keep(card, body, "chart", () => {
    const node = make("div", { class: "chart", role: "group", tabindex: "0", "aria-label": `${card.title}. The arrow keys read its values.` });
    node.addEventListener("keydown", (event) => { const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key]; if (by) { event.preventDefault(); read(card, node, by); } });
    node.addEventListener("blur", () => { charts.get(card.name)?.dispatchAction({ type: "hideTip" }); node.at = undefined; });
    return node;
  });
  if (!charts.has(card.name)) { box.replaceChildren(); charts.set(card.name, echarts.init(box, null, { renderer: "svg" })); }
  charts.get(card.name).setOption(options, { notMerge: true });
  if (box.at !== undefined) read(card, box, 0);
}
/** Show the value before or after the one shown (the newest first), as the pointer does, and say it. */
function read(card, box, by) {
  const chart = charts.get(card.name), { series: [{ data, links }] } = chart.getOption();
  const places = links ? links.map((_, n) => n) : data.flatMap((point, n) => (point[1] === null ? [] : [n]));
  box.at = Math.min(Math.max((box.at ?? places.length + (by < 0 ? 0 : -1)) + by, 0), places.length - 1);
  const link = links?.[box.at];
  if (!link) chart.dispatchAction({ type: "showTip", seriesIndex: 0, dataIndex: places[box.at] });
  if (!by) return;
  const said = link ? [flow(link)] : [...box.querySelectorAll(":scope > div:last-child div:not(:has(div))")].map((node) => node.innerText.replace("\n", " "));
  if (!box.nextElementSibling) box.after(make("p", { class: link ? "note" : "unseen", role: "status" }));
  box.nextElementSibling.textContent = said.join(", ");
}
const flow = ({ source, target, value }) => `${source.slice(5)} → ${target.slice(3)}: ${format.text(value)}`;
function axes(unit, most, type) {
  const line = css("--line"), dim = css("--dim"), label = { color: dim, fontSize: 11 };
  const scale = format.axis(most, unit, type !== "numeric" && type !== "double precision");
  return {
    animation: false,
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily },
    grid: { left: 4, right: 10, top: 12, bottom: 2, outerBoundsMode: "same", outerBoundsContain: "axisLabel" },
    xAxis: {
      type: "time", axisLine: { lineStyle: { color: line } }, axisTick: { show: false }, splitLine: { show: false }, splitNumber: 3,
      axisLabel: { ...label, hideOverlap: true, formatter: (ms) => format.axisTime(ms, false) },
    },
    yAxis: {
      type: "value", splitLine: { lineStyle: { color: line, type: [3, 3] } }, min: 0, max: scale.max, interval: scale.interval,
      axisLabel: { ...label, formatter: scale.label },
    },
    tooltip: {
      trigger: "axis", confine: true, backgroundColor: css("--paper"), borderColor: line, padding: [7, 11], transitionDuration: 0,
      textStyle: { color: css("--ink"), fontSize: 12.5 }, axisPointer: { type: "line", lineStyle: { color: dim, type: "solid", width: 1 } },
      valueFormatter: (v) => (v === undefined || v === null ? "—" : format.text(v, unit)),
    },
  };
}
function tooltipHead(options, seconds) {
  options.xAxis.axisPointer = { label: { show: false } };
  options.tooltip.formatter = (points) => {
    const box = make("div"), list = [...points].sort((a, b) => (b.value[1] ?? 0) - (a.value[1] ?? 0));
    box.append(make("div", {}, format.axisTime(points[0].value[0], seconds)));
    for (const point of list) {
      const dot = make("span"); dot.style.cssText = `display:inline-block;width:8px;height:8px;border-radius:2px;margin-right:7px;background:${point.color}`;
      const figure = make("b"); figure.style.cssText = "float:right;margin-left:18px;font-weight:600"; figure.textContent = options.tooltip.valueFormatter(point.value[1]);
      box.append(make("div", {}, dot, point.seriesName, figure));
    }
    return box;
  };
  return options;
}

/** How many lines the legend wraps to, by the width of its letters. */
function legendLines(names, width) {
  let lines = 1, used = 0;
  for (const name of names) {
    const item = 26 + 6.6 * name.length;
    if (used && used + item > width) { lines += 1; used = 0; }
    used += item;
  }
  return lines;
}

const sums = (rows) => { const by = new Map(); for (const [at, , v] of rows) by.set(at, (by.get(at) ?? 0) + (v ?? 0)); return [...by.values()]; };
/** Where an axis of times ends: one batch that had to catch up must not flatten all others. */
function usual(values) {
  const sorted = [...values].sort((a, b) => a - b), most = sorted.at(-1), nearly = sorted[Math.floor(0.9 * (sorted.length - 1))];
  return sorted.length >= 10 && most > 4 * nearly ? 2 * nearly : most;
}

function lines(card, body, rows) {
  const area = card.chart === "area", bySeries = card.columns[1].type === "text";
  const value = card.columns[bySeries ? 2 : 1], names = bySeries ? [...new Set(rows.map((r) => r[1]))] : card.columns.slice(1).map((c) => format.caption(c.name));
  if (bySeries) names.sort((a, b) => order.indexOf(a) - order.indexOf(b));
  const points = names.map((name, i) => bySeries
    ? rows.filter((r) => r[1] === name).map((r) => [Date.parse(r[0]), r[2]])
    : rows.map((r) => [Date.parse(r[0]), r[i + 1]]));
  const seconds = rows.length > 1 && Date.parse(rows.at(-1)[0]) - Date.parse(rows[0][0]) < 900e3;
  const heights = area && bySeries ? sums(rows) : rows.flatMap((row) => (bySeries ? [row[2]] : row.slice(1))).filter((v) => v !== null);
  const peak = Math.max(...heights), end = value.unit === "ms" ? usual(heights) : peak;
  const options = tooltipHead(axes(value.unit, end, value.type), seconds);
  if (peak > options.yAxis.max) {
    options.title = { text: `Peak ${format.text(peak, value.unit)}, off the scale`, right: 6, top: 2, padding: 2, textStyle: { color: css("--dim"), fontSize: 11, fontWeight: "normal" } };
    options.grid.top = 24;
  }
  if (names.length > 1) {
    options.legend = { bottom: 0, left: 0, icon: "roundRect", itemWidth: 9, itemHeight: 9, itemGap: 11, textStyle: { color: css("--dim"), fontSize: 11.5 }, data: names };
    options.grid.bottom = 8 + 19 * legendLines(names, body.clientWidth);
  }
  // A mart's first minutes would otherwise be drawn on an axis of days.
  const last = Date.parse(rows.at(-1)[0]);
  options.xAxis.min = Math.min(Date.parse(rows[0][0]), last - 600e3);
  options.xAxis.max = last;
  options.series = names.map((name, i) => {
    const color = seriesColor(name, i);
    return {
      name, type: "line", data: points[i], color, lineStyle: { width: 2, color }, connectNulls: bySeries, symbol: "circle", symbolSize: 5,
      showSymbol: points[i].filter((p) => p[1] !== null).length < 4, showAllSymbol: true,
      ...(area ? { areaStyle: { color, opacity: bySeries ? 0.75 : 0.18 }, stack: bySeries ? "all" : undefined } : {}),
    };
  });
  plot(card, body, options);
}

function columns(card, body, rows) {
  const value = card.columns[1], options = tooltipHead(axes(value.unit, Math.max(...rows.map((row) => row[1] ?? 0)), value.type), false), color = seriesColor("", 0);
  options.tooltip.axisPointer = { type: "shadow", shadowStyle: { color: css("--soft"), opacity: 0.6 } };
  options.series = [{
    name: format.caption(value.name), type: "bar", barCategoryGap: "22%", color, itemStyle: { borderRadius: [2, 2, 0, 0] },
    data: rows.map((r) => [Date.parse(r[0]), r[1]]),
  }];
  plot(card, body, options);
}

function sankey(card, body, rows) {
  const value = card.columns[2], label = (name) => name ?? "new";
  const rank = (name) => { const at = order.indexOf(name); return at < 0 ? 99 : at; };
  const side = (at) => [...new Set(rows.map((r) => label(r[at])))].sort((a, b) => rank(a) - rank(b));
  const narrow = body.clientWidth < 420, shown = (name) => (narrow ? name.replaceAll(" ", "\n") : name);
  const room = (at) => 14 + 6.4 * Math.max(...side(at).flatMap((name) => shown(name).split("\n")).map((line) => line.length));  // beside the bands
  const node = (prefix, name, position) => ({ name: `${prefix} ${name}`, depth: prefix === "from" ? 0 : 1, itemStyle: { color: segmentColor(name) ?? css("--faint") }, label: { position, formatter: shown(name), align: position === "left" ? "right" : "left" } });
  const options = {
    animation: false, textStyle: { fontFamily: getComputedStyle(document.body).fontFamily },
    tooltip: { confine: true, backgroundColor: css("--paper"), borderColor: css("--line"), padding: [7, 11], textStyle: { color: css("--ink"), fontSize: 12.5 },
      formatter: (p) => { const box = make("div"); box.textContent = p.dataType === "edge" ? flow(p.data) : `${p.name}: ${format.text(p.value, value.unit)}`; return box; } },
    series: [{
      type: "sankey", left: room(0), right: room(1), top: 12, bottom: 12, nodeWidth: 9, nodeGap: narrow ? 20 : 14, layoutIterations: 0, draggable: false, emphasis: { focus: "adjacency" },
      label: { color: css("--ink"), fontSize: 11.5, lineHeight: 12, textBorderWidth: 0 }, lineStyle: { color: "source", opacity: isDark() ? 0.34 : 0.26, curveness: 0.5 },
      data: [...side(0).map((n) => node("from", n, "left")), ...side(1).map((n) => node("to", n, "right"))],
      links: rows.filter((r) => r[2] > 0).map((r) => ({ source: `from ${label(r[0])}`, target: `to ${label(r[1])}`, value: r[2] })),
    }],
  };
  plot(card, body, options);
}

const RENDERERS = { scalar, bar, matrix, table, line: lines, area: lines, sankey };
