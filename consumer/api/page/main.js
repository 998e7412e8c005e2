/** The page: who is signed in, the connection, and where each event goes. */

import { addAlert, clearAlerts, nameGap, nameNone, startAlerts } from "./alerts.js";
import { byId } from "./dom.js";
import { showFigures } from "./figures.js";
import { startSearch } from "./search.js";
import { startEvidence } from "./evidence.js";
import { enter, session, signIn } from "./service.js";
import { Stream } from "./stream.js";

const stream = new Stream("/v1/live");

function say(state, text) {
  const place = byId("connection");
  if (place.dataset.state !== state || place.textContent !== text) {
    place.dataset.state = state;
    place.textContent = text;
  }
}

function notice(text, retry = false) {
  const place = byId("notice");
  // Set only what differs: an alert region is read aloud at each change.
  if (byId("notice-text").textContent !== text) byId("notice-text").textContent = text;
  byId("notice-retry").hidden = !retry;
  place.hidden = !text;
}

function show(which) {
  byId("live").hidden = which !== "live";
  byId("signin").hidden = which !== "signin";
  byId("search").hidden = which !== "live";
  if (which === "signin") {
    say("out", "signed out");
    notice("");
    document.querySelectorAll("dialog[open]").forEach((dialog) => dialog.close());
    byId("token").focus();
  }
}

function onWait({ detail }) {
  const overloaded = detail.status === 429;
  say(overloaded ? "overloaded" : "lost", overloaded ? "overloaded" : "connection lost");
  const what = overloaded
    ? "The service is overloaded and sends no figures."
    : detail.status === 503
      ? "The service has nothing to show now."
      : "The connection to the service is lost.";
  notice(`${what} What you see is not live; it is tried again by itself.`, true);
  byId("notice-retry").textContent = detail.seconds ? `Try now (${detail.seconds} s)` : "Trying …";
}

function onSummary({ detail }) {
  say("live", "live");
  const problems = Object.values(detail.problems);
  notice(problems.length ? `Some figures stand still: ${problems.join("; ")}` : "");
  showFigures(detail);
  if (!detail.alerts && !("alerts" in detail.problems)) nameNone();
}

function listen() {
  stream.addEventListener("wait", onWait);
  stream.addEventListener("open", () => say("live", "live"));
  stream.addEventListener("summary", onSummary);
  stream.addEventListener("alert", ({ detail }) => addAlert(detail));
  stream.addEventListener("gap", nameGap);
  stream.addEventListener("closed", () => show("signin"));
  byId("notice-retry").addEventListener("click", () => stream.retryNow());
  addEventListener("online", () => stream.retryNow());
  session.addEventListener("ended", () => show("signin"));
  byId("signin-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    byId("signin-error").textContent = "";
    try {
      await signIn(byId("token").value.trim());
      byId("token").value = "";
      clearAlerts();
      begin();
    } catch (error) {
      byId("signin-error").textContent = error.status === 401 ? "This token is not known, was used, or is too old." : error.told;
    }
  });
}

function begin() {
  show("live");
  stream.run();
}

async function start() {
  listen();
  startAlerts();
  startEvidence();
  startSearch();
  try {
    if (await enter()) begin();
    else show("signin");
  } catch (error) {
    if (error.status === 401) show("signin");
    // What cannot be told now is found out by the stream, which tries again.
    else begin();
  }
}

start();
