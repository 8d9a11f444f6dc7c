// The basket box: add products, see what goes with them by tonight's rules.
import { fillTable, make, place, tableBox } from "./charts.js";

const COLUMNS = [
  { name: "stock_code", type: "text", caption: "Code" }, { name: "name", type: "text", caption: "Goes with it" },
  { name: "because", type: "text[]", caption: "Because of" },
  { name: "confidence", type: "double precision", unit: "percent" }, { name: "lift", type: "double precision" },
];

const MOST_SHOWN = 8;  // products to choose from, where a name is of several

export function openBasket() {
  const products = new Map(), basket = new Set();
  const list = make("datalist", { id: "products" });
  const input = make("input", { id: "product", name: "product", list: "products", placeholder: "Stock code or product", "aria-label": "Product for the basket", autocomplete: "off" });
  const form = make("form", {}, input, make("button", { class: "button", type: "submit" }, "Add"));
  const choice = make("div", { class: "choice", role: "status" });
  const chips = make("div", { class: "chips" }), result = make("div", { class: "body", role: "status" });
  const box = make("section", { class: "card full basket", id: "basket", "aria-label": "Basket" },
    make("header", {}, make("h3", {}, "What goes with it?"), make("span", { class: "note" }, "add products")), form, list, choice, chips, result);
  say("The basket is empty");

  function say(words, isError = false) { result.replaceChildren(make("div", { class: isError ? "empty error" : "empty" }, words)); }
  const named = (code) => `${code} ${products.get(code) ?? ""}`.trim();
  function chip(code, use, label) {
    const node = make("button", { class: use, type: "button", "aria-label": label, "data-code": code }, named(code));
    node.onclick = () => (use === "chip" ? remove(code) : add(code));
    return node;
  }

  /** The answer of our server, or null where it has none: then the box says why. */
  async function get(path) {
    const answer = await fetch(path).catch(() => null), found = await answer?.json().catch(() => null);
    if (answer?.ok) return found;
    say(found?.error ?? "The page's server is unreachable", true);
    return null;
  }
  async function loadProducts() {
    const found = await get("/api/products");
    for (const [code, name] of found ?? []) products.set(code, name);
    if (found) list.replaceChildren(...found.slice(0, 500).map(([code, name]) => make("option", { value: code }, name)));
    return Boolean(found);
  }

  /** The stock codes that somebody may mean: that code, that name, else all whose name or code holds the words. */
  function meant(typed) {
    const words = typed.toLowerCase(), all = [...products];
    const exact = all.filter(([code, name]) => code.toLowerCase() === words || name.toLowerCase() === words);
    return (exact.length ? exact : all.filter(([code, name]) => `${code} ${name}`.toLowerCase().includes(words))).map(([code]) => code);
  }
  function add(code) { basket.add(code); input.value = ""; choice.replaceChildren(); input.focus(); ask(); }
  function remove(code) {
    const next = chips.querySelector(`[data-code="${CSS.escape(code)}"]`).nextElementSibling;
    basket.delete(code);
    ask();
    (next ?? input).focus();
  }

  async function ask() {
    const known = new Map([...chips.children].map((node) => [node.dataset.code, node]));
    place(chips, [...basket].map((code) => known.get(code) ?? chip(code, "chip", `Remove ${named(code)}`)));
    if (!basket.size) return say("The basket is empty");
    const asked = [...basket].join(", "), found = await get(`/api/recommend?${new URLSearchParams([...basket].map((code) => ["code", code]))}`);
    if (!found || asked !== [...basket].join(", ")) return;
    if (!found.length) return say(`No recommendations for ${asked}`);
    const table = tableBox("What goes with the basket");
    result.replaceChildren(table);
    fillTable(table.firstElementChild, COLUMNS, found.map((row) => row.slice(0, 5)));
  }

  input.addEventListener("focus", loadProducts, { once: true });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const typed = input.value.trim();
    if (!typed || !(await loadProducts())) return;
    const codes = meant(typed);
    if (codes.length === 1) return add(codes[0]);
    if (!codes.length) return choice.replaceChildren(products.size ? `No product of the current rules matches “${typed}”` : "No rules yet: the nightly job has not run");
    const more = codes.length - MOST_SHOWN;
    choice.replaceChildren(`${codes.length} products match “${typed}”: `, ...codes.slice(0, MOST_SHOWN).map((code) => chip(code, "chip pick", `Add ${named(code)}`)), ...(more > 0 ? [` and ${more} more`] : []));
  });
  return box;
}
