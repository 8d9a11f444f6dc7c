// Numbers, units and times as people read them.
const LOCALE = "en-US";
export const shop = { currency: "", zone: "UTC" };

const plain = (digits) => new Intl.NumberFormat(LOCALE, { minimumFractionDigits: digits, maximumFractionDigits: digits });
const whole = plain(0), tenth = plain(1), cents = plain(2);
const STEPS = [[1e12, "tn"], [1e9, "bn"], [1e6, "M"], [1e4, "k", 1e3]];

export function count(value, digits = 0) { return plain(digits).format(value); }

/** 1,234 · 12.3 k · 4.57 M: at most four digits. */
export function compact(value) {
  for (const [from, name, unit = from] of STEPS) {
    if (Math.abs(value) >= from) {
      const scaled = value / unit;
      return `${new Intl.NumberFormat(LOCALE, { maximumSignificantDigits: Math.abs(scaled) >= 1000 ? 4 : 3 }).format(scaled)} ${name}`;
    }
  }
  return Number.isInteger(value) ? whole.format(value) : Math.abs(value) < 100 ? tenth.format(value) : whole.format(value);
}

const SCALES = {
  ms: [[86400e3, "days"], [3600e3, "h"], [60e3, "min"], [1e3, "s"], [1, "ms"]], percent: [[0, "%", 0.01]],
  other: [[1e12, "tn"], [1e9, "bn"], [1e6, "M"], [1e4, "k", 1e3]],
};
/** An axis from 0 to at least `most`: the step from line to line, its end, and its labels, all in one unit. */
export function axis(most, unit, integer) {
  const [from, name, scale = from] = (SCALES[unit] ?? SCALES.other).find(([from]) => most >= from) ?? [1, ""];
  const rough = most / scale / 3 || 1, power = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 2.5, 5, 10].find((n) => n * power >= rough) * power * scale;
  if (integer) step = Math.ceil(step);
  const figure = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 2 });
  const label = (value) => (value ? measure(`${figure.format(value / scale)}${name && ` ${name}`}`, unit)[0] : "0");
  return { interval: step, max: step * Math.max(1, Math.ceil(most / step)), label };
}

/** The digits after the point that a whole column needs, so that its figures line up. */
export function digitsOf(values, type, unit) {
  const numbers = values.filter((v) => typeof v === "number");
  if (unit === "currency") return numbers.some((v) => !Number.isInteger(v)) && Math.max(...numbers.map(Math.abs)) < 1e6 ? 2 : 0;
  if (unit === "percent") return 1;
  return type === "numeric" || type === "double precision" ? (numbers.every(Number.isInteger) ? 0 : 2) : 0;
}

export function duration(ms) {
  if (ms < 1000) return [whole.format(ms), "ms"];
  if (ms < 60e3) return [(ms < 10e3 ? cents : tenth).format(ms / 1000), "s"];
  if (ms < 3600e3) return [tenth.format(ms / 60e3), "min"];
  if (ms < 48 * 3600e3) return [tenth.format(ms / 3600e3), "h"];
  return [whole.format(ms / 86400e3), "days"];
}

const money = (figure) => `${shop.currency}${shop.currency.length > 1 ? " " : ""}${figure}`;

/** [figure, unit] of a value; `short` allows 12.3 k. The currency stands before the figure. */
export function measure(value, unit, { short = false, digits } = {}) {
  if (value === null || value === undefined) return ["—", ""];
  if (typeof value !== "number") return [unit === "currency" ? money(value) : String(value), ""];
  if (unit === "ms") return duration(value);
  if (unit === "percent") return [`${plain(digits ?? 1).format(value * 100)}%`, ""];
  const figure = short ? compact(value) : count(value, digits ?? (Number.isInteger(value) ? 0 : 2));
  if (unit === "currency") return [money(figure), ""];
  if (unit === "days") return [figure, value === 1 ? "day" : "days"];
  return [figure, ""];
}

export function text(value, unit, options) { return measure(value, unit, options).filter(Boolean).join(" "); }

export function caption(name) { const words = name.replaceAll("_", " "); return words[0].toUpperCase() + words.slice(1); }

const formats = new Map();
function timeFormat(zone, options) {
  const key = zone + JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat("en-GB", { timeZone: zone, ...options }));
  return formats.get(key);
}
const CLOCK = { hour: "2-digit", minute: "2-digit", second: "2-digit" }, MINUTE = { hour: "2-digit", minute: "2-digit" };
const DAY = { day: "numeric", month: "short" }, DATE = { day: "numeric", month: "short", year: "numeric" };

/** A moment (timestamptz) in the shop's zone: the clock if it is today there, else with the day. */
export function moment(iso, seconds = true) {
  const at = new Date(iso), day = timeFormat(shop.zone, DATE);
  const clock = timeFormat(shop.zone, seconds ? CLOCK : MINUTE).format(at);
  return day.format(at) === day.format(new Date()) ? clock : `${timeFormat(shop.zone, DAY).format(at)}, ${clock}`;
}
export function axisTime(ms, seconds) { return timeFormat(shop.zone, seconds ? CLOCK : MINUTE).format(new Date(ms)); }

/** A local time of the shop (timestamp without a zone), as written. */
export function local(iso, clock = true) {
  const at = new Date(`${iso}${iso.includes("T") ? "" : "T00:00:00"}Z`);
  const day = timeFormat("UTC", DATE).format(at);
  return clock && iso.includes("T") ? `${day}, ${timeFormat("UTC", MINUTE).format(at)}` : day;
}

export function ago(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}
