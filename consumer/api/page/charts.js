/** The charts, by uPlot; each redraws itself for another width or colour scheme. */

import { byId } from "./dom.js";
import { compact, milliseconds, number, OUTCOMES, percent, time } from "./format.js";

const dark = matchMedia("(prefers-color-scheme: dark)");
const HEIGHT = 190;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** One chart in `#<name>-chart`, with what the pointer is at in `#<name>-reading`. */
class Chart {
  constructor(name, options, reading) {
    this.place = byId(`${name}-chart`);
    this.readingPlace = byId(`${name}-reading`);
    this.options = options;
    this.reading = reading;
    this.data = null;
    new ResizeObserver(() => this.#fit()).observe(this.place);
    dark.addEventListener("change", () => this.#build());
  }

  show(data, told) {
    this.data = data;
    this.place.setAttribute("aria-label", told);
    if (this.plot) this.plot.setData(data);
    else this.#build();
  }

  #fit() {
    const width = this.place.clientWidth;
    if (this.plot && width && width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
    else if (!this.plot && width && this.data) this.#build();
  }

  #build() {
    this.plot?.destroy();
    this.plot = null;
    if (!this.data || !this.place.clientWidth) return;
    const chosen = this.options();
    this.plot = new uPlot(
      {
        width: this.place.clientWidth,
        height: HEIGHT,
        legend: { show: false },
        cursor: { y: false, points: { show: false }, drag: { setScale: false, x: false } },
        padding: [8, 28, 0, 0],
        hooks: { setCursor: [(plot) => this.#read(plot)] },
        ...chosen,
        axes: chosen.axes.map((axis) => ({
          stroke: colour("quiet"),
          grid: { stroke: colour("grid"), width: 1 },
          ticks: { show: false },
          font: "12px system-ui, sans-serif",
          ...axis,
        })),
      },
      this.data,
      this.place,
    );
  }

  #read(plot) {
    const index = plot.cursor.idx;
    this.readingPlace.textContent = index === null || index === undefined ? "" : this.reading(this.data, index);
  }
}

const clockAxis = { values: (_, ticks) => ticks.map((s) => time(s * 1000)), space: 80, size: 28 };
const ruler = (format, size = 46) => ({ values: (_, ticks) => ticks.map(format), size, space: 35 });

function bars(name, size = 0.85) {
  return { fill: colour(name), stroke: colour(name), width: 0, paths: uPlot.paths.bars({ size: [size, 64] }), points: { show: false } };
}

function line(name) {
  return { stroke: colour(name), width: 2, points: { show: false }, spanGaps: true };
}

const powers = (_, ticks) => ticks.map((v) => (v >= 1 && Number.isInteger(Math.log10(v)) ? v : null));
const fromZero = (_, low, high) => [0, Math.max(high ?? 0, 1) * 1.05];

export const decisions = new Chart(
  "decisions",
  () => ({
    series: [{}, bars("decline", 1), bars("review", 1), bars("approve", 1)],
    scales: { x: { time: false }, y: { range: fromZero } },
    axes: [clockAxis, ruler(compact)],
  }),
  ([seconds, all, lower, approved], at) =>
    `${time(seconds[at] * 1000)}: ${approved[at]} approved, ${lower[at] - approved[at]} for review, ` +
    `${all[at] - lower[at]} declined`,
);

export const latency = new Chart(
  "latency",
  () => ({
    series: [{}, line("tail"), line("median")],
    scales: { x: { time: false }, y: { range: fromZero } },
    axes: [clockAxis, ruler((v) => milliseconds(v), 62)],
  }),
  ([seconds, tail, median], at) =>
    median[at] === null ? "" : `${time(seconds[at] * 1000)}: ${milliseconds(median[at])}, ${milliseconds(tail[at])}`,
);

export const scores = new Chart(
  "scores",
  () => ({
    series: [{}, bars("approve", 0.9)],
    // By the logarithm: nearly all probabilities are small, and the few others matter.
    scales: { x: { time: false, range: [0, 1] }, y: { distr: 3, range: (_, low, high) => [0.8, Math.max(10, high ?? 0) * 1.2] } },
    axes: [
      { values: (_, ticks) => ticks.map((v) => v.toFixed(1)), space: 40, size: 28 },
      { ...ruler((v) => (v === null ? "" : compact(v))), filter: powers, grid: { stroke: colour("grid"), width: 1, filter: powers } },
    ],
  }),
  ([middles, counts], at) => {
    const half = 0.5 / middles.length;
    return `${(middles[at] - half).toFixed(2)} to ${(middles[at] + half).toFixed(2)}: ${number(counts[at] ?? 0)}`;
  },
);

/** A stacked picture of rows `[second, approved, review, declined]`. */
export function showDecisions(rows, totals) {
  const stacked = [
    rows.map((r) => r[0]),
    rows.map((r) => r[1] + r[2] + r[3]),
    rows.map((r) => r[1] + r[2]),
    rows.map((r) => r[1]),
  ];
  const told = Object.entries(OUTCOMES).map(([name, word]) => `${number(totals[name])} ${word}`).join(", ");
  decisions.show(stacked, `Bars of two minutes: ${told}`);
}

export function showLatency(rows, summary) {
  const told = `The median and the 99th percentile of two minutes: ${milliseconds(summary.p50)} and ${milliseconds(summary.p99)}`;
  latency.show([rows.map((r) => r[0]), rows.map((r) => r[5]), rows.map((r) => r[4])], told);
}

export function showScores(bands) {
  const all = bands.reduce((a, b) => a + b, 0);
  const high = bands.slice(Math.floor(bands.length / 2)).reduce((a, b) => a + b, 0);
  const middles = bands.map((_, at) => (at + 0.5) / bands.length);
  const told = `Fraud probabilities of ${number(all)} transactions; ${all ? percent(high / all) : "none"} are one half or more`;
  scores.show([middles, bands.map((count) => count || null)], told);
}
