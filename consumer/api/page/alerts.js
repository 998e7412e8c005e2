/** The latest alerts, newest first. The list holds still while somebody is in it. */

import { byId, el } from "./dom.js";
import { openEvidence } from "./evidence.js";
import { money, NONE, OUTCOMES, score, time, words } from "./format.js";

const KEPT = 100;

let waiting = [];
let drawing = false;
let clicked = false;

const list = () => byId("alerts");
const held = () => list().contains(document.activeElement) || list().matches(":hover");

export function addAlert(alert) {
  waiting.push(alert);
  if (waiting.length > KEPT) waiting.shift();
  if (!drawing) {
    drawing = true;
    // Not by animation frames, which stand still in a hidden tab while alerts come.
    setTimeout(draw, 100);
  }
}

/** Say that there is none, once it is known. */
export function nameNone() {
  byId("alerts-none").hidden = waiting.length > 0 || list().children.length > 0;
}

export function clearAlerts() {
  waiting = [];
  list().replaceChildren();
}

/** Say that alerts are missing between those above and those below. */
export function nameGap() {
  flush();
  list().prepend(el("li.gap", {}, "Alerts are missing here: they left the stream before this page saw them."));
}

function draw() {
  drawing = false;
  const button = byId("alerts-new");
  if (waiting.length && held() && !clicked) {
    button.textContent = `Show ${waiting.length === KEPT ? `${KEPT} or more` : waiting.length} new`;
    button.hidden = false;
    return;
  }
  flush();
}

function flush() {
  clicked = false;
  byId("alerts-new").hidden = true;
  list().prepend(...waiting.map(row).reverse());
  waiting = [];
  while (list().children.length > KEPT) list().lastElementChild.remove();
  nameNone();
}

function row(alert) {
  const reasons = alert.reasons.map(words).join(", ") || "no reason";
  const outcome = alert.decided
    ? `${OUTCOMES[alert.decided]}, with all scores ${OUTCOMES[alert.outcome]}`
    : OUTCOMES[alert.outcome] ?? alert.outcome;
  return el("li", {},
    el("button.alert", { type: "button", onclick: () => openEvidence(alert.transaction_id) },
      el(`span.badge.${alert.outcome}`, {}, outcome),
      el("span.amount", {}, money(alert.amount, alert.currency)),
      el("time", { datetime: new Date(alert.decided_ms).toISOString() }, time(alert.decided_ms)),
      el("span.who", {}, `${alert.card_id} at ${alert.merchant_id}`),
      el("span.score", {}, alert.fraud_score === null ? `fraud ${NONE}` : `fraud ${score(alert.fraud_score)}`),
      el("span.why", {}, reasons)));
}

/** Up and down walk through the list; leaving it lets it move again. */
export function startAlerts() {
  list().addEventListener("keydown", (event) => {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (!step) return;
    const next = event.target.closest("li")?.[step]?.querySelector("button");
    if (next) {
      event.preventDefault();
      next.focus();
    }
  });
  for (const event of ["focusout", "pointerleave"]) list().addEventListener(event, () => setTimeout(draw, 50));
  byId("alerts-new").addEventListener("click", () => {
    clicked = true;
    flush();
    list().querySelector("button")?.focus();
  });
}
