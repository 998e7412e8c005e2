/** Tiles, charts, reasons, endpoints and shards, from one summary a second. */

import { showDecisions, showLatency, showScores } from "./charts.js";
import { byId, el, table } from "./dom.js";
import { behind, compact, milliseconds, NONE, number, percent, words } from "./format.js";

// The second that is under way and the one before are not complete yet.
const OPEN_S = 2;
const LATELY_S = 10;

const seconds = new Map();

const sum = (rows, at) => rows.reduce((total, row) => total + row[at], 0);

export function showFigures(summary) {
  const now = Math.floor(summary.now_ms / 1000);
  for (const row of summary.seconds) seconds.set(row[0], row);
  for (const second of seconds.keys()) if (second <= now - summary.window_s) seconds.delete(second);
  const rows = [];
  for (let second = now - summary.window_s + 1; second <= now - OPEN_S; second++) {
    rows.push(seconds.get(second) ?? [second, 0, 0, 0, null, null]);
  }
  showTiles(rows.slice(-LATELY_S), summary);
  showDecisions(rows, { approve: sum(rows, 1), review: sum(rows, 2), decline: sum(rows, 3) });
  showLatency(rows, summary.latency);
  showScores(summary.scores);
  showReasons(summary.reasons, summary.alerts);
  showDaemons(summary.daemons);
}

function showTiles(rows, { latency, daemons }) {
  const all = sum(rows, 1) + sum(rows, 2) + sum(rows, 3);
  const set = (name, text) => (byId(`tile-${name}`).textContent = text);
  set("rate", compact(all / LATELY_S));
  set("decline", all ? percent(sum(rows, 3) / all) : NONE);
  set("review", all ? percent(sum(rows, 2) / all) : NONE);
  set("p50", milliseconds(latency.p50));
  set("p99", milliseconds(latency.p99));
  const lags = (daemons ?? []).flatMap((each) => (each.shards ?? []).map((shard) => shard.lag_ms)).filter((ms) => ms !== null);
  set("lag", lags.length ? behind(Math.max(...lags)) : NONE);
}

function showReasons(reasons, alerts) {
  byId("reasons-of").textContent = alerts ? `of the last ${number(alerts)} alerts` : "no alerts yet";
  const most = Math.max(1, ...reasons.map(([, count]) => count));
  const list = byId("reasons");
  list.replaceChildren(
    ...reasons.map(([name, count]) => {
      const meter = el("meter", { min: 0, max: most, value: count, "aria-hidden": "true" });
      return el("li", {}, el("span.name", { title: name }, words(name)), el("span.count", {}, number(count)), meter);
    }),
  );
}

let daemonsShown = "";

function showDaemons(daemons) {
  // Built anew only where something changed: whoever reads or scrolls in it is not disturbed.
  const found = JSON.stringify(daemons);
  if (found === daemonsShown) return;
  daemonsShown = found;
  const place = byId("daemons");
  if (!daemons?.length) {
    place.replaceChildren(el("p.quiet", {}, "Asking …"));
    return;
  }
  const parts = daemons.flatMap((each) => daemon(each, daemons.length > 1));
  if (!daemons.some((each) => each.unreachable || each.shards.length)) {
    parts.push(el("p.quiet", {}, "Shards are shown of the daemons that api.daemon_urls names."));
  }
  place.replaceChildren(...parts);
}

function daemon({ url, unreachable, problems, endpoints, shards }, several) {
  const parts = several ? [el("h3", {}, url)] : [];
  if (unreachable) return [...parts, el("p.problem", {}, `${several ? "It" : url} does not answer: ${unreachable}`)];
  parts.push(...problems.map((each) => el("p.problem", {}, each)));
  const called = Object.entries(endpoints);
  if (called.length) {
    parts.push(table(`Endpoints of ${url}`, ["endpoint", "breaker", "median", "99 %"],
      called.map(([name, each]) => [name, breaker(each.breaker), milliseconds(each.p50), milliseconds(each.p99)])));
  }
  if (shards.length) {
    parts.push(table(`Shards of ${url}`, ["shard", "behind", "stage", "unsaved for"],
      shards.map((each) => [shortened(each.shard), behind(each.lag_ms), each.stage, behind(each.checkpoint_age_s * 1000)])));
  }
  if (!called.length && !shards.length) parts.push(el("p.quiet", {}, "No endpoint was called, no shard is read."));
  return parts;
}

/** A shard by what tells it from others: its number. */
const shortened = (shard) => shard.replace(/^shardId-0*(?=\d)/, "…");

function breaker(state) {
  return el(`span.badge.${{ open: "decline", "half-open": "review" }[state] ?? "approve"}`, {}, state ?? NONE);
}
