/** Numbers, times and words as people read them. */

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3, notation: "compact" });
const share = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const full = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

export const NONE = "–";
export const OUTCOMES = { approve: "approved", review: "for review", decline: "declined" };

const given = (value, format) => (value === null || value === undefined ? NONE : format(value));

export const number = (value) => given(value, (v) => plain.format(v));
export const compact = (value) => given(value, (v) => short.format(v));
export const percent = (value) => given(value, (v) => share.format(v));
export const time = (ms) => given(ms, (v) => clock.format(v));
export const moment = (ms) => given(ms, (v) => full.format(v));
/** A time of today without its date. */
export const lately = (ms) =>
  given(ms, (v) => (new Date(v).toDateString() === new Date().toDateString() ? clock : full).format(v));
export const score = (value) => given(value, (v) => v.toFixed(3));
export const milliseconds = (ms) =>
  given(ms, (v) => (v >= 10000 ? `${plain.format(Math.round(v / 1000))} s` : `${plain.format(Math.round(v * 10) / 10)} ms`));
export const words = (name) => String(name).replaceAll("_", " ");

export function money(amount, currency) {
  if (amount === null || amount === undefined) return NONE;
  try {
    return new Intl.NumberFormat("en", { style: "currency", currency }).format(amount);
  } catch {
    return `${plain.format(amount)} ${currency ?? ""}`.trim();
  }
}

/** How far behind something is: seconds, minutes or hours. */
export function behind(ms) {
  if (ms === null || ms === undefined) return NONE;
  if (ms < 1000) return "< 1 s";
  if (ms < 120000) return `${Math.round(ms / 1000)} s`;
  return ms < 7200000 ? `${Math.round(ms / 60000)} min` : `${plain.format(ms / 3600000)} h`;
}
