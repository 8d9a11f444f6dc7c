// The customer page: where a customer stands, why, and how they came there.
import { fillTable, make, segmentColor } from "./charts.js";
import * as format from "./format.js";

const INVOICES = [
  { name: "invoice_date", type: "timestamp", caption: "Date" }, { name: "invoice", type: "text" },
  { name: "counting_lines", type: "integer", caption: "Lines" }, { name: "purchased", type: "numeric", unit: "currency" },
  { name: "returned", type: "numeric", unit: "currency" },
];
const MOVES = [
  { name: "changed_at", type: "timestamptz", caption: "When" }, { name: "event_time", type: "timestamp", caption: "Shop time" },
  { name: "from_segment", type: "text", caption: "From" }, { name: "to_segment", type: "text", caption: "To" },
  { name: "cause", type: "text" }, { name: "scores", type: "text", caption: "r f m" },
];

const MOST = 25;  // invoices that the server sends

/** Show a customer; `first`: the viewer came just now, so clear what was there. */
export async function openCustomer(box, id, first) {
  const back = make("a", { class: "back", href: "#/" }, "← All cards");
  if (first) box.replaceChildren(back, make("div", { class: "empty" }, "…"));
  const answer = await fetch(`/api/customer/${encodeURIComponent(id)}`).catch(() => null);
  const found = await answer?.json().catch(() => null);
  if (!answer?.ok) {
    if (first || answer?.status === 404) box.replaceChildren(back, make("div", { class: "empty error" }, found?.error ?? "The page's server is unavailable."));
    return;
  }
  const { customer, scores: tiles, invoices, moves } = found;
  const segment = make("span", { class: "segment" }, customer.customer_segment ?? "no segment yet");
  segment.style.setProperty("--segment", segmentColor(customer.customer_segment) ?? "");
  box.replaceChildren(back, make("h1", {}, `Customer ${customer.customer_id}`, segment), make("div", { class: "grid" },
    figures(customer), scores(tiles),
    card("Moves between segments", "full", tableOf(MOVES, moves.map((m) => [...m.slice(0, 5), scoreMove(m)]), "No move yet.")),
    card(invoices.length < MOST ? "Purchases" : `Newest ${MOST} purchases`, "full", tableOf(...purchases(invoices), "No invoice.")),
  ));
}

function card(title, size, ...content) {
  return make("section", { class: `card ${size}`, "aria-label": title }, make("header", {}, make("h2", {}, title)), make("div", { class: "body" }, ...content));
}
function tableOf(columns, rows, nothing) {
  if (!rows.length) return make("div", { class: "empty" }, nothing);
  const element = make("table", {}, make("thead"), make("tbody"));
  fillTable(element, columns, rows);
  return make("div", { class: "scroll" }, element);
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
    ["Invoices", ...format.measure(customer.frequency)], ["Spent in all", ...format.measure(customer.monetary, "currency", { digits: format.digitsOf([customer.monetary], "numeric", "currency") })],
  ];
  const element = make("section", { class: "card full headline" }, make("dl", { class: "figures" }, ...list.map(([name, figure, unit]) =>
    make("div", { class: "figure" }, make("dt", {}, name), make("dd", {}, figure, ...(unit ? [make("small", {}, unit)] : []))))));
  return element;
}
const METRICS = {
  r: ["Recency", (v) => format.local(v, false), (more) => format.text(more, "days", { digits: 0 })],
  f: ["Frequency", (v) => format.text(Number(v)), (more) => `${format.count(more)} more ${more === 1 ? "invoice" : "invoices"}`],
  m: ["Monetary", (v) => format.text(Number(v), "currency"), (more) => `${format.text(more, "currency")} more`],
};
/** One line a score: the fifth that the customer is in, the rank, and what is missing to the next fifth. */
function scores(rows) {
  const lines = rows.map(([metric, score, value, rank, customers, , , places, next, more]) => {
    const [name, shown, missing] = METRICS[metric];
    const way = places === null ? "in the best fifth"
      : `${format.count(places)} ${places === 1 ? "place" : "places"} below the next fifth: ${metric === "r" ? `a purchase on ${shown(next)} or later` : missing(more)}`;
    return make("div", { class: "score", "data-metric": metric }, make("span", {}, name),
      make("span", { class: "steps", role: "img", "aria-label": `score ${score} of 5` }, ...[1, 2, 3, 4, 5].map((step) => make("i", { class: step <= score ? "on" : "" }))),
      make("b", {}, `${score}`),
      make("span", { class: "hint" }, `${shown(value)} · rank ${format.count(customers - rank + 1)} of ${format.count(customers)} · ${way}`));
  });
  return card("Scores, and the way up", "full", make("div", { class: "scores" }, ...lines));
}
