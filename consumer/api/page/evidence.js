/** What one decision was made on, its neighbours, and the buttons that label it. */

import { byId, el, pairs, table } from "./dom.js";
import { lately, milliseconds, moment, money, NONE, number, OUTCOMES, score, words } from "./format.js";
import { read, send } from "./service.js";

const dialog = () => byId("evidence");
const body = () => byId("evidence-body");

let wanted = "";

export function startEvidence() {
  for (const sheet of document.querySelectorAll("dialog")) {
    sheet.querySelector(".close").addEventListener("click", () => sheet.close());
    // A press on what is behind a sheet is one on the dialog itself.
    sheet.addEventListener("click", (event) => event.target === sheet && sheet.close());
  }
  dialog().addEventListener("close", () => (wanted = ""));
}

/** Open the sheet of a transaction; the last one asked for is shown, whatever answers first. */
export async function openEvidence(id) {
  wanted = id;
  byId("evidence-title").textContent = id;
  body().replaceChildren(el("p.quiet", {}, "Reading …"));
  if (!dialog().open) dialog().showModal();
  await load(id);
}

async function load(id) {
  try {
    const found = await read(`/v1/evidence/${encodeURIComponent(id)}`);
    if (wanted !== id) return;
    body().replaceChildren(...render(found));
    body().scrollTop = 0;
  } catch (error) {
    if (wanted !== id) return;
    body().replaceChildren(
      el("p.problem", { role: "alert" }, error.status === 404 ? "There is no document of this id, or it has expired." : error.told),
      el("button", { type: "button", onclick: () => openEvidence(id) }, "Try again"));
  }
}

function render(found) {
  return [
    verdict(found),
    labelling(found),
    section("Why", why(found)),
    section("Transaction", [pairs(fields(found))]),
    section("Features against the usual", features(found.features)),
    section("Same card", neighbours(found, "card", "merchant")),
    section("Same merchant", neighbours(found, "merchant", "card")),
    section("Whence", [pairs(whence(found))]),
  ];
}

/** The fields of the event, its time as a person reads it. */
function fields({ transaction, event_ms: ms }) {
  return Object.entries(transaction).map(([name, value]) => [words(name), name === "event_time" ? moment(ms) : value]);
}

function section(title, parts) {
  return el("section", {}, el("h3", {}, title), parts);
}

function verdict({ decision, transaction, scores, degraded, label }) {
  const said = label ? [el("span.badge.label", {}, `labelled ${words(label.label)} by ${label.source}`)] : [];
  return el("div.verdict", {},
    el(`span.badge.${decision.outcome}`, {}, OUTCOMES[decision.outcome] ?? decision.outcome),
    el("strong", {}, money(transaction.amount, transaction.currency)),
    el("span", {}, `fraud ${score(scores.fraud)}`),
    el("span", {}, `anomaly ${score(scores.anomaly)}`),
    degraded.length ? el("span.badge.review", {}, `degraded: ${degraded.map(words).join(", ")}`) : null,
    said);
}

function labelling({ transaction_id: id }) {
  const told = el("p", { role: "status" });
  const buttons = [["fraud", "It is fraud"], ["legitimate", "It is legitimate"]].map(([label, text]) =>
    el(`button.label-${label}`, { type: "button", onclick: () => note(id, label, buttons, told) }, text));
  return el("div.labelling", {}, buttons, told);
}

async function note(id, label, buttons, told) {
  buttons.forEach((each) => (each.disabled = true));
  told.textContent = "Noting …";
  try {
    await send("/v1/labels", { type: "label", transaction_id: id, label, label_time: new Date().toISOString(), source: "analyst" });
    if (wanted !== id) return;
    await load(id);
    body().querySelector("[role=status]").textContent = `Noted as ${label}.`;
  } catch (error) {
    told.textContent = error.told ?? String(error);
  } finally {
    buttons.forEach((each) => (each.disabled = false));
  }
}

function why({ decision, rules, explanation, second_assessment: second }) {
  const facts = [["reasons", decision.reasons.map(words).join(", ") || "nothing spoke against it"]];
  if (decision.texts.length) facts.push(["that is", decision.texts.join("; ")]);
  if (decision.risk !== null) facts.push(["risk with rules", score(decision.risk)]);
  const list = (hits) => hits.map((hit) => (rules.warming.includes(hit) ? `${hit} (a feature of it was warming)` : hit)).join(", ");
  if (rules.hits.length) facts.push(["rules that hit", list(rules.hits)]);
  if (rules.shadow.length) facts.push(["rules in shadow", list(rules.shadow)]);
  if (rules.errors.length) facts.push(["rules without value", rules.errors.join(", ")]);
  if (second) {
    facts.push(["assessed again", `${OUTCOMES[second.outcome] ?? second.outcome} with all scores: fraud ${score(second.scores.fraud)}, anomaly ${score(second.scores.anomaly)}`]);
  }
  const parts = [pairs(facts, "one")];
  if (explanation.length) {
    const most = Math.max(...explanation.map((each) => Math.abs(each.contribution)));
    const unit = explanation[0].unit;
    parts.push(el("h4", {}, `What moved the fraud score (${unit})`),
      el("ul.contributions", {}, explanation.map((each) => contribution(each, most))));
  }
  return parts;
}

function contribution({ feature, value, contribution: amount }, most) {
  const towards = amount > 0 ? "fraud" : "legitimate";
  return el("li", {},
    el("span.name", {}, `${words(feature)} = ${number(value)}`),
    el("span.count", {}, `${amount > 0 ? "+" : "−"}${Math.abs(amount).toFixed(2)} towards ${towards}`),
    el(`meter.${towards}`, { min: 0, max: most || 1, value: Math.abs(amount), "aria-hidden": "true" }));
}

const UNITS_S = { m: 60, h: 3600, d: 86400 };
const seconds = (window) => parseInt(window, 10) * UNITS_S[window.at(-1)];

function features({ compared, windows, others, absent }) {
  const parts = compared.map(({ feature, multiple }) =>
    el(multiple >= 3 ? "p.high" : "p", {}, `The amount is ${number(multiple)} times ${words(feature)}.`));
  parts.push(...absent.map((entity) =>
    el("p.quiet", {}, `The event names no ${entity}: its features are 0 for that, not because it is new.`)));
  const groups = Map.groupBy ? Map.groupBy(windows, (each) => each.entity) : grouped(windows);
  for (const [entity, all] of groups) {
    const columns = [...new Set(all.flatMap((each) => each.windows))].sort((a, b) => seconds(a) - seconds(b));
    const rows = all.map((each) => [words(each.what), ...columns.map((column) => reading(each, each.windows.indexOf(column)))]);
    parts.push(table(`Features of the ${entity}`, [entity, ...columns], rows));
  }
  if (windows.some((each) => each.usual.length)) {
    parts.push(el("p.quiet", {}, "Small: what the rest of the longest window makes usual."));
  }
  parts.push(pairs(Object.entries(others).map(([name, value]) => [words(name), number(value)])));
  return parts;
}

function grouped(windows) {
  const groups = new Map();
  for (const each of windows) groups.set(each.entity, [...(groups.get(each.entity) ?? []), each]);
  return groups;
}

/** A value with what is usual below it, marked where it is three times that or more. */
function reading({ values, usual }, at) {
  if (at < 0) return NONE;
  if (at >= usual.length) return el("span", {}, number(values[at]));
  const high = values[at] >= 3 * usual[at] && values[at] > 1;
  return el("span", {}, el(high ? "strong.high" : "span", {}, number(values[at]), high ? el("span.hidden", {}, " high") : null),
    el("small", {}, `usual ${number(usual[at])}`));
}

function neighbours({ neighbours: all, transaction_id: own }, kind, other) {
  const { id, total, items } = all[kind];
  const rows = items.map((item) => [
    item.transaction_id === own ? "this one" : opener(item),
    el(`span.badge.${item.outcome}`, {}, OUTCOMES[item.outcome] ?? item.outcome),
    money(item.amount, item.currency),
    item[`${other}_id`],
    score(item.fraud),
    item.label ?? NONE,
  ]);
  const more = total > items.length ? `, the newest ${items.length} of ${number(total)}` : "";
  return [el("p.quiet", {}, `${id}${more}`), table(`Decisions of ${kind} ${id}`, ["time", "decision", "amount", other, "fraud", "label"], rows)];
}

/** A button with the time of a transaction, which opens it. */
export function opener({ transaction_id: id, event_ms: ms }) {
  return el("button.link", { type: "button", title: id, onclick: () => openEvidence(id) }, lately(ms));
}

function whence({ origin, event_ms: event, decided_ms: decided, prediction_id: _, rules, versions, label }) {
  const facts = [
    ["event time", moment(event)],
    ["came by", origin.shard_id ? `${origin.source}, ${origin.shard_id}` : origin.source],
    ["received to decided", milliseconds(decided - origin.received_ms)],
    ["rules", rules.hash || NONE],
    ["lists", rules.lists_hash || NONE],
    ...Object.entries(versions).map(([name, value]) => [words(name), value]),
  ];
  if (label) facts.push(["labelled at", moment(label.time_ms)]);
  return facts;
}
