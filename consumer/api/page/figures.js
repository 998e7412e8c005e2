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
  if (!daemons) place.replaceChildren(el("p.quiet", {}, "No daemon is configured to be asked (api.daemon_urls)."));
  else if (!daemons.length) place.replaceChildren(el("p.quiet", {}, "Asking …"));
  else place.replaceChildren(...daemons.flatMap(daemon));
}

function daemon({ url, unreachable, problems, endpoints, shards }) {
  if (unreachable) return [el("p.problem", {}, `${url} does not answer: ${unreachable}`)];
  const parts = problems.map((each) => el("p.problem", {}, each));
  const called = Object.entries(endpoints);
  if (called.length) {
    parts.push(table(`Endpoints of ${url}`, ["endpoint", "breaker", "median", "99 %"],
      called.map(([name, each]) => [name, breaker(each.breaker), milliseconds(each.p50), milliseconds(each.p99)])));
  }
  if (shards.length) {
    parts.push(table(`Shards of ${url}`, ["shard", "behind", "stage", "unsaved for"],
      shards.map((each) => [each.shard.replace("shardId-", "…").replace(/…0+(?=\d)/, "…"), behind(each.lag_ms), each.stage, behind(each.checkpoint_age_s * 1000)])));
  }
  if (!parts.length) parts.push(el("p.quiet", {}, `${url}: no shard, no endpoint called yet.`));
  return parts;
}

function breaker(state) {
  return el(`span.badge.${{ open: "decline", "half-open": "review" }[state] ?? "approve"}`, {}, state ?? NONE);
}
