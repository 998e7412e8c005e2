/** Requests to the service: with the session's code where they change something. */

let code = "";

/** An answer that is not a success; `status` 0 means that none came. */
export class Failure extends Error {
  constructor(status, problem, retryAfterS) {
    const fields = (problem.errors ?? []).map((e) => `${e.field}: expected ${e.expected}`).join("; ");
    super(fields || problem.detail || problem.title || `status ${status}`);
    this.status = status;
    this.retryAfterS = retryAfterS;
  }

  /** What to tell a person. */
  get told() {
    if (this.status === 0) return "The service does not answer.";
    if (this.status === 429) return `The service is overloaded; try again in ${this.retryAfterS} s.`;
    if (this.status === 503) return `Not available now: ${this.message}`;
    return this.message;
  }
}

/** Whoever wants to know that nobody is signed in (any more). */
export const session = new EventTarget();

/** The answer to a request, its status looked at. Throws Failure. */
export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, { title: "no answer" }, 1);
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  if (answer.status === 401) session.dispatchEvent(new Event("ended"));
  throw new Failure(answer.status, problem, Number(answer.headers.get("Retry-After")) || 1);
}

export async function read(path) {
  return (await ask(path, { headers: { Accept: "application/json" } })).json();
}

export async function send(path, body) {
  const headers = { "Content-Type": "application/json", Accept: "application/json", "X-Fraudstream-CSRF": code };
  const answer = await ask(path, { method: "POST", headers, body: JSON.stringify(body) });
  return answer.status === 204 ? null : answer.json();
}

/** Sign in with the token of the address, if there is one; true if somebody is signed in. */
export async function enter() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) {
    // Out of the address and the history before anything can fail.
    history.replaceState(null, "", location.pathname);
    return signIn(token);
  }
  try {
    code = (await read("/v1/session")).csrf;
    return true;
  } catch (error) {
    if (error.status === 401) return false;
    throw error;
  }
}

export async function signIn(token) {
  code = (await send("/v1/session", { token })).csrf;
  return true;
}
