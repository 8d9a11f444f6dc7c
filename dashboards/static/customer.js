// The customer page: where a customer stands, why, and how they came there.
import { fillTable, make, segmentColor, tableBox } from "./charts.js";
import * as format from "./format.js";

const INVOICES = [
  { name: "invoice_date", type: "timestamp", caption: "Date" }, { name: "invoice", type: "text" },
  { name: "counting_lines", type: "integer", caption: "Counting lines" }, { name: "purchased", type: "numeric", unit: "currency" },
  { name: "returned", type: "numeric", unit: "currency" },
];
const MOVES = [
  { name: "changed_at", type: "timestamptz", caption: "When" }, { name: "event_time", type: "timestamp", caption: "Shop time" },
  { name: "from_segment", type: "text", caption: "From" }, { name: "to_segment", type: "text", caption: "To" },
  { name: "cause", type: "text" }, { name: "scores", type: "text", caption: "r f m" },
];

const MOST = 25;  // invoices that the server sends

let open = null;  // the customer who is shown: { id, box, segment, grid, body }

/** Begin to show a customer; `refreshOpen` fills the page. */
export function openCustomer(box, id) {
  const segment = make("span", { class: "segment" }), grid = make("div", { class: "grid" }, make("div", { class: "empty card full" }, "Loading…"));
  box.replaceChildren(make("a", { class: "back", href: "#/" }, "← Overview"), make("h1", { tabindex: "-1" }, `Customer ${id}`, segment), grid);
  segment.hidden = true;
  open = { id, segment, grid, bodies: null };
}

/** Ask for the open customer and show what changed; the page keeps its elements, and so the keyboard its focus. */
export async function refreshOpen() {
  const asked = open, answer = await fetch(`/api/customer/${encodeURIComponent(asked.id)}`).catch(() => null);
  const found = await answer?.json().catch(() => null);
  if (asked !== open) return refreshOpen();  // another was opened meanwhile
  if (!answer?.ok) {
    if (!open.bodies || answer?.status === 404) fail(found?.error ?? "The page's server is unreachable", answer?.status === 404 ? "" : ": this customer appears automatically when it is back");
    return;
  }
  const { customer, scores: quintiles, invoices, moves } = found;
  if (!open.bodies) build();
  open.segment.hidden = false;
  open.segment.textContent = customer.customer_segment ?? "no segment yet";
  open.segment.style.setProperty("--segment", segmentColor(customer.customer_segment) ?? "");
  const { figures: first, scores: second, moves: third, purchases: fourth } = open.bodies;
  first.replaceChildren(figures(customer));
  second.replaceChildren(scores(quintiles));
  showTable(third, MOVES, moves.map((m) => [...m.slice(0, 5), scoreMove(m)]), "No moves yet");
  fourth.parentElement.querySelector("h2").textContent = invoices.length < MOST ? "Purchases" : `Newest ${MOST} purchases`;
  showTable(fourth, ...purchases(invoices), "No invoices");
}

function fail(words, then) {
  open.grid.replaceChildren(make("div", { class: "empty error card full", role: "alert" }, `${words}${then}.`));
  open.bodies = null;
}
function build() {
  const titles = { figures: "Figures", scores: "Scores and next steps", moves: "Moves between segments", purchases: "Purchases" };
  open.bodies = {};
  open.grid.replaceChildren(...Object.entries(titles).map(([name, title]) => {
    open.bodies[name] = make("div", { class: "body" });
    return make("section", { class: name === "figures" ? "card full headline" : "card full", "aria-label": title }, make("header", {}, make("h2", {}, title)), open.bodies[name]);
  }));
}
function showTable(body, columns, rows, nothing) {
  if (!rows.length) return body.replaceChildren(make("div", { class: "empty" }, nothing));
  const name = body.parentElement.getAttribute("aria-label");
  if (body.querySelectorAll("th").length !== columns.length) body.replaceChildren(tableBox(name));
  fillTable(body.querySelector("table"), columns, rows);
}
/** Columns and rows of the purchases; nobody wants a column of zeros where nothing was ever returned. */
function purchases(invoices) {
  const returns = invoices.some((row) => row[4]);
  return returns ? [INVOICES, invoices] : [INVOICES.slice(0, 4), invoices.map((row) => row.slice(0, 4))];
}
function scoreMove([, , , , , , fromR, fromF, fromM, toR, toF, toM]) {
  return fromR === null ? `${toR} ${toF} ${toM}` : `${fromR} ${fromF} ${fromM} → ${toR} ${toF} ${toM}`;
}

function figures(customer) {
  const list = [
    ["Last purchase", format.local(customer.last_purchase, false), ""], ["Recency", ...format.measure(customer.recency, "days")],
    ["Invoices", ...format.measure(customer.frequency)], ["Total spent", ...format.measure(customer.monetary, "currency", { digits: format.digitsOf([customer.monetary], "numeric", "currency") })],
  ];
  return make("dl", { class: "figures" }, ...list.map(([name, figure, unit]) =>
    make("div", { class: "figure" }, make("dt", {}, name), make("dd", {}, figure, ...(unit ? [make("small", {}, unit)] : [])))));
}
const METRICS = {
  r: ["Recency", (v) => format.local(v, false), (more) => format.text(more, "days", { digits: 0 })],
  f: ["Frequency", (v) => format.text(Number(v)), (more) => `${format.count(more)} more ${more === 1 ? "invoice" : "invoices"}`],
  m: ["Monetary", (v) => format.text(Number(v), "currency"), (more) => `${format.text(more, "currency")} more`],
};
/** One line a score: the quintile that the customer is in, the rank, and what is missing to the next quintile. */
function scores(rows) {
  const lines = rows.map(([metric, score, value, rank, customers, places, next, more]) => {
    const [name, shown, missing] = METRICS[metric];
    const way = places === null ? "in the top quintile"
      : `${format.count(places)} ${places === 1 ? "place" : "places"} below the next quintile: ${metric === "r" ? `a purchase on ${shown(next)} or later` : missing(more)}`;
    return make("div", { class: "score", "data-metric": metric }, make("span", {}, name),
      make("span", { class: "steps", role: "img", "aria-label": `score ${score} of 5` }, ...[1, 2, 3, 4, 5].map((step) => make("i", { class: step <= score ? "on" : "" }))),
      make("b", {}, `${score}`),
      make("span", { class: "hint" }, `${shown(value)} · rank ${format.count(rank)} of ${format.count(customers)}, 1 is the best · ${way}`));
  });
  return make("div", { class: "scores" }, ...lines);
}
