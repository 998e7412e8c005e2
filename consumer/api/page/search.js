/** The search box: decisions by card, merchant, device or reason, or one by its id. */

import { byId, el, table } from "./dom.js";
import { openEvidence, opener } from "./evidence.js";
import { money, NONE, number, OUTCOMES, score, words } from "./format.js";
import { read } from "./service.js";

const LIMIT = 25;

const body = () => byId("results-body");

export function startSearch() {
  byId("search").addEventListener("submit", (event) => {
    event.preventDefault();
    search();
  });
  addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, select, textarea, dialog");
    if (event.key === "/" && !typing && !byId("search").hidden && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      byId("search-text").focus();
    }
  });
}

function search() {
  const [kind, text, decision] = ["kind", "text", "decision"].map((name) => byId(`search-${name}`).value.trim());
  if (kind === "transaction" && text) {
    openEvidence(text);
    return;
  }
  const question = new URLSearchParams({ limit: LIMIT });
  if (text) question.set(kind, kind === "reason" ? text.replaceAll(" ", "_") : text);
  if (decision) question.set("decision", decision);
  const what = [decision ? OUTCOMES[decision] : "", text ? `${kind} ${text}` : ""].filter(Boolean).join(", ");
  byId("results-title").textContent = what || "The newest decisions";
  body().replaceChildren(el("p.quiet", {}, "Searching …"));
  if (!byId("results").open) byId("results").showModal();
  page(question, []);
}

async function page(question, before) {
  try {
    const found = await read(`/v1/transactions?${question}`);
    const all = [...before, ...found.transactions];
    const rows = all.map((each) => row(each));
    const parts = rows.length
      ? [el("p.quiet", { role: "status" }, `${number(all.length)} of ${number(found.total)}`),
         table("Decisions found", ["time", "decision", "amount", "card", "merchant", "fraud", "reasons", "label"], rows)]
      : [el("p", { role: "status" }, "Nothing found. Ids are compared whole and by case.")];
    if (found.next) {
      parts.push(el("button", { type: "button", onclick: () => {
        question.set("cursor", found.next);
        page(question, all);
      } }, "Show more"));
    }
    body().replaceChildren(...parts);
  } catch (error) {
    body().replaceChildren(el("p.problem", { role: "alert" }, error.told ?? String(error)),
      el("button", { type: "button", onclick: () => page(question, before) }, "Try again"));
  }
}

function row({ transaction_id, event_ms, transaction, decision, scores, label }) {
  return [
    opener({ transaction_id, event_ms }),
    el(`span.badge.${decision.outcome}`, {}, OUTCOMES[decision.outcome] ?? decision.outcome),
    money(transaction.amount, transaction.currency),
    transaction.card_id,
    transaction.merchant_id,
    score(scores.fraud),
    decision.reasons.map(words).join(", ") || NONE,
    label?.label ?? NONE,
  ];
}
