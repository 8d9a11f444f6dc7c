// The live page: builds the cards, follows the server's events, shows in which state the stream is.
import * as charts from "./charts.js";
import * as format from "./format.js";
import { openBasket } from "./basket.js";
import { openCustomer, refreshOpen } from "./customer.js";

const LIVE_MS = 15000;  // no batch for longer: the shop is quiet
const $ = (id) => document.getElementById(id);
const { make } = charts;
const known = new Map();  // name -> { card, element, body, rows, error }
let status = null, statusAt = 0, connected = false, batch = null;

async function start() {
  const page = await (await fetch("/api/page")).json();
  format.shop.currency = page.currency;
  format.shop.zone = page.time_zone;
  charts.setSegments(page.segments);
  for (const group of new Set(page.cards.map((card) => card.group))) {
    const cards = page.cards.filter((card) => card.group === group);
    $(group).append(...cards.map((card, n) => build(card, span(cards, n))));
  }
  $("business").append(openBasket());
  follow();
  route();
  setInterval(showState, 1000);
}

function build(card, size) {
  const element = make("section", { class: `card ${size}`, id: `card-${card.name}`, "aria-label": card.title });
  const body = make("div", { class: "body" }, make("div", { class: "empty" }, "Loading…"));
  const change = card.chart === "bar" && card.columns.find((column) => column.name.startsWith("change"));
  const description = make("p", { class: "description", id: `about-${card.name}`, hidden: "" }, card.description);
  const info = make("button", { class: "info", type: "button", title: card.description, "aria-label": `About ${card.title}`, "aria-expanded": "false", "aria-controls": description.id }, "?");
  info.onclick = () => { description.hidden = !description.hidden; info.ariaExpanded = String(!description.hidden); };
  element.append(make("header", {}, make(card.group === "now" ? "h2" : "h3", {}, card.title), ...(change ? [make("span", { class: "note" }, `▲▼ ${change.name.replace("change_", "").replaceAll("_", " ")}`)] : []), info), description, body);
  known.set(card.name, { card, element, body, rows: null });
  return element;
}
/** Figures take the whole width, charts a third, tables a half; of a pair of tables the one with more columns more. */
function span(cards, n) {
  const { chart } = cards[n];
  if (chart !== "table") return chart === "scalar" ? "full headline" : chart;
  let run = n;
  while (run > 0 && cards[run - 1].chart === "table") run -= 1;
  const other = cards[(n - run) % 2 ? n - 1 : n + 1];
  const more = other?.chart === "table" ? cards[n].columns.length - other.columns.length : 0;
  return more > 0 ? "wider" : more < 0 ? "narrower" : "wide";
}

let events = null;
/** Follow the server while the tab is seen: a browser has few connections to a server, and many tabs. */
function follow() {
  events?.close();
  events = document.hidden ? null : new EventSource("/api/events");
  if (!events) return;
  events.onopen = () => { connected = true; showState(); };
  events.onerror = () => { connected = false; showState(); };
  events.onmessage = (event) => {
    connected = true;
    for (const news of JSON.parse(event.data)) {
      if (news.status) {
        if (news.status.mart === "here" && status?.mart !== "here") batch = null;  // it is back: what failed is asked again
        status = news.status; statusAt = performance.now(); format.shop.zone = status.time_zone ?? format.shop.zone;
      }
      const entry = known.get(news.card);
      if (entry) { entry.rows = news.rows ?? null; entry.error = news.error; show(entry); }
    }
    showState();
    if (status?.last_batch_at && status.last_batch_at !== batch) { batch = status.last_batch_at; refreshCustomer(); }
  };
}

function show({ card, body, rows, error }) {
  if (error) charts.empty(card, body, `This card could not be loaded: ${error}`, true);
  else if (rows && !$("overview").hidden) charts.draw(card, body, rows);
}
function showAll() { for (const entry of known.values()) show(entry); }

const STALE = "Showing the last known data; updates resume automatically";
/** What the viewer must know first: { name, words, time, headline, text, detail }. Only `time` changes by the second, so
    that a screen reader does not say all of it again and again; `detail` is for who must find the cause. */
function state() {
  if (!connected) return { name: "lost", words: "page server is unreachable", headline: "The page's server is unreachable.", text: `${STALE} when \`retail-mart page\` runs again.` };
  if (!status) return { name: "connecting", words: "connecting" };
  if (status.mart === "unavailable") return { name: "unavailable", words: "PostgreSQL is unreachable", headline: "PostgreSQL is unreachable.", text: `Since ${format.moment(status.since)}. ${STALE}.`, detail: status.reason };
  if (status.mart === "refuses") return { name: "unavailable", words: "the query failed", headline: "The query failed.", text: `${status.reason}. If its views are missing, run \`retail-mart migrate\`.` };
  const since = status.since_batch_ms === null ? null : status.since_batch_ms + performance.now() - statusAt;
  if (!status.writer_connected) {
    const last = since === null ? "No batch applied yet." : `The last batch was applied at ${format.moment(status.last_batch_at)}.`;
    return { name: "down", words: "the stream is down", headline: "The stream is down.", text: `No streaming job is connected to the mart. ${last} Start it with \`retail-mart run\`.`,
      detail: status.writer_application && `The last writer was ${status.writer_application}, epoch ${status.writer_epoch}, since ${format.moment(status.writer_started_at)}.` };
  }
  if (status.blockers?.length) {
    const { since: from, relation } = status.blockers[0], what = relation ? `on ${relation}` : "on a row";
    const who = status.blockers.map(({ pid, role, application }) => role ? `pid ${pid} of ${role}${application ? ` (${application})` : ""}` : "a prepared transaction");
    return { name: "down", words: "the stream is waiting", headline: "The stream is waiting for a lock.", text: `Since ${format.moment(from)} for a lock ${what}, held by ${who.join(", ")}. It resumes automatically when that transaction ends.` };
  }
  if (since === null) return { name: "idle", words: "waiting for the first invoice" };
  return since < LIVE_MS ? { name: "live", words: "live" } : { name: "idle", words: "no new invoice", time: ` for ${format.ago(since)}` };
}
function showState() {
  const { name, words, time = "", headline, text, detail } = state(), pill = $("state"), notice = $("notice");
  pill.dataset.state = document.body.dataset.state = name;
  const [said, howLong] = pill.lastElementChild.children;
  if (said.textContent !== words) said.textContent = words;
  howLong.textContent = time;
  pill.title = status?.writer_application ? `Writer: ${status.writer_application}, epoch ${status.writer_epoch}` : "";
  notice.hidden = !headline;
  if (headline && notice.dataset.said !== headline + text) {
    notice.dataset.said = headline + text;
    const parts = text.split("`").map((part, n) => (n % 2 ? make("code", {}, part) : part));
    notice.replaceChildren(make("strong", {}, headline), make("span", {}, ...parts),
      ...(detail ? [make("details", {}, make("summary", {}, "Details"), detail)] : []));
  }
  document.body.classList.toggle("stale", ["lost", "unavailable"].includes(name));
  if (status?.mart === "here") $("clock").textContent = status.newest_invoice_date ? `Shop time ${format.local(status.newest_invoice_date)}` : "";
  $("foot").textContent = `Times are in ${format.shop.zone}.`;
}

/** The customer whom the address names, else null. */
function addressed() {
  const match = location.hash.match(/^#\/customer\/(.+)$/);
  try { return match && decodeURIComponent(match[1]); } catch { return match[1]; }  // not encoded: as it stands
}
let seen = null;
/** Show what the address names: its title, and the keyboard's focus at its beginning (at the way one came, going back). */
function route() {
  const id = addressed(), before = seen;
  seen = id;
  document.title = id === null ? "Retail mart" : `Customer ${id} · Retail mart`;
  $("overview").hidden = id !== null;
  $("customer").hidden = id === null;
  for (const link of document.querySelectorAll(".skip a:not(:first-child)")) link.hidden = id !== null;
  if (id !== null) {
    openCustomer($("customer"), id);
    refreshCustomer();
    scrollTo(0, 0);
    $("customer").querySelector("h1").focus();
    return;
  }
  showAll();
  charts.resizeAll();
  if (before !== null) (document.querySelector(`#overview a[href='#/customer/${CSS.escape(encodeURIComponent(before))}']`) ?? $("overview").querySelector("h1")).focus();
}
let asking = false, again = false;
async function refreshCustomer() {
  if (seen === null) return;  // what is shown, not what the address names: `route` may not have come to it yet
  if (asking) { again = true; return; }
  asking = true;
  try { await refreshOpen(); }
  finally { asking = false; }
  if (again) { again = false; setTimeout(refreshCustomer, 500); }
}
for (const link of document.querySelectorAll(".skip a")) {
  link.addEventListener("click", (event) => {  // the address after # is the view's
    event.preventDefault();
    document.querySelector(link.hash).focus();
  });
}

$("find").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = event.target.customer.value.trim();
  if (id) { location.hash = `#/customer/${encodeURIComponent(id)}`; event.target.reset(); }
});
$("theme").addEventListener("click", () => {
  const next = charts.isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  try { localStorage.setItem("theme", next); } catch { /* storage is off: for this visit */ }
  charts.redrawAll(showAll);
  refreshCustomer();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.redrawAll(showAll));
document.addEventListener("visibilitychange", follow);
addEventListener("hashchange", route);
addEventListener("resize", () => charts.resizeAll());

start().catch((error) => {
  $("notice").hidden = false;
  $("notice").replaceChildren(make("strong", {}, "The page could not start."), make("span", {}, String(error)));
});
