/**
 * Server-Sent Events by fetch: EventSource neither tells a 429 from a lost connection nor says
 * how long to wait. Comes back by itself, with the id of the last event.
 */

import { Failure, ask } from "./service.js";

const SILENCE_MS = 25000;
const LONGEST_PAUSE_S = 15;

/**
 * Dispatches each event under its name (`detail` is its data), `open`, `wait` (with `detail`
 * `{status, seconds, told}`) and `closed`.
 */
export class Stream extends EventTarget {
  #path;
  #lastId = "";
  #failures = 0;
  #wake = () => {};
  #running = false;

  constructor(path) {
    super();
    this.#path = path;
  }

  /** Read until there is nobody signed in; returns when that is so. */
  async run() {
    if (this.#running) return;
    this.#running = true;
    for (;;) {
      let failure;
      try {
        await this.#once();
        failure = new Failure(0, { title: "the stream ended" }, 1);
      } catch (error) {
        failure = error instanceof Failure ? error : new Failure(0, { title: String(error) }, 1);
      }
      if (failure.status === 401 || failure.status === 403) break;
      const pause = Math.min(LONGEST_PAUSE_S, 2 ** this.#failures++) * (0.75 + Math.random() / 2);
      await this.#pause(failure, Math.max(1, Math.round(Math.max(pause, failure.retryAfterS))));
    }
    this.#running = false;
    this.dispatchEvent(new Event("closed"));
  }

  /** Do not wait any longer. */
  retryNow() {
    this.#wake();
  }

  async #pause(failure, seconds) {
    for (let left = seconds; left > 0; left--) {
      this.#say("wait", { status: failure.status, seconds: left, told: failure.told });
      const awoken = await new Promise((resolve) => {
        this.#wake = () => resolve(true);
        setTimeout(() => resolve(false), 1000);
      });
      this.#wake = () => {};
      if (awoken) return;
    }
    this.#say("wait", { status: failure.status, seconds: 0, told: failure.told });
  }

  async #once() {
    const abort = new AbortController();
    let watchdog = setTimeout(() => abort.abort(), SILENCE_MS);
    const headers = { Accept: "text/event-stream" };
    if (this.#lastId) headers["Last-Event-ID"] = this.#lastId;
    try {
      const answer = await ask(this.#path, { headers, signal: abort.signal });
      this.dispatchEvent(new Event("open"));
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        clearTimeout(watchdog);
        watchdog = setTimeout(() => abort.abort(), SILENCE_MS);
        this.#failures = 0;
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        blocks.forEach((block) => this.#event(block));
      }
    } finally {
      clearTimeout(watchdog);
    }
  }

  #event(block) {
    const fields = { data: [] };
    for (const line of block.split("\n")) {
      const [, name, value] = /^([a-z]+): ?(.*)$/.exec(line) ?? [];
      if (name === "data") fields.data.push(value);
      else if (name) fields[name] = value;
    }
    if (fields.id) this.#lastId = fields.id;
    if (fields.data.length) this.#say(fields.event ?? "message", JSON.parse(fields.data.join("\n")));
  }

  #say(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
