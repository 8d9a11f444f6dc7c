// The basket box: put products in, see what goes with them by tonight's rules.
import { fillTable, make, tableBox } from "./charts.js";

const COLUMNS = [
  { name: "stock_code", type: "text", caption: "Code" }, { name: "name", type: "text", caption: "Goes with it" },
  { name: "because", type: "text[]", caption: "Because of" },
  { name: "confidence", type: "double precision", unit: "percent" }, { name: "lift", type: "double precision" },
];

export function openBasket() {
  const products = new Map(), basket = new Set();
  const list = make("datalist", { id: "products" });
  const input = make("input", { id: "product", name: "product", list: "products", placeholder: "Stock code or product", "aria-label": "Product for the basket", autocomplete: "off" });
  const form = make("form", {}, input, make("button", { class: "button", type: "submit" }, "Add"));
  const chips = make("div", { class: "chips" }), result = make("div", { class: "body", role: "status" });
  const box = make("section", { class: "card full basket", id: "basket", "aria-label": "Basket" },
    make("header", {}, make("h2", {}, "What goes with it?"), make("span", { class: "note" }, "put products into the basket")), form, list, chips, result);
  say("Empty basket.");

  function say(words, isError = false) { result.replaceChildren(make("div", { class: isError ? "empty error" : "empty" }, words)); }

  async function loadProducts() {
    const answer = await fetch("/api/products").catch(() => null);
    if (!answer?.ok) return;
    for (const [code, name] of await answer.json()) products.set(code, name);
    list.replaceChildren(...[...products].map(([code, name]) => make("option", { value: code }, name)));
  }

  async function ask() {
    chips.replaceChildren(...[...basket].map((code) => {
      const chip = make("button", { class: "chip", type: "button", "aria-label": `Take ${code} out` }, products.has(code) ? `${code} ${products.get(code)}` : code);
      chip.onclick = () => { basket.delete(code); ask(); };
      return chip;
    }));
    if (!basket.size) return say("Empty basket.");
    const answer = await fetch(`/api/recommend?${new URLSearchParams([...basket].map((code) => ["code", code]))}`).catch(() => null);
    const found = await answer?.json().catch(() => null);
    if (!answer?.ok) return say(found?.error ?? "The page's server does not answer.", true);
    if (!found.length) return say(`No current rule begins with ${[...basket].join(", ")}.`);
    const table = tableBox("What goes with the basket");
    result.replaceChildren(table);
    fillTable(table.firstElementChild, COLUMNS, found.map((row) => row.slice(0, 5)));
  }

  input.addEventListener("focus", loadProducts);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const typed = input.value.trim();
    if (!typed) return;
    if (!products.size) await loadProducts();
    const byName = [...products].find(([, name]) => name.toLowerCase() === typed.toLowerCase());
    basket.add(byName ? byName[0] : products.has(typed.toUpperCase()) ? typed.toUpperCase() : typed);
    input.value = "";
    ask();
  });
  return box;
}
