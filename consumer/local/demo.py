"""
``make demo``: the main job on the embedded stack, proved by count.

History is simulated and run through the engine, both models are trained on what
it says, the daemon runs on the real KCL, live traffic is sent, and what came of
it is counted from the outside. Ends with ``.demo/summary.json`` and exit code 1
unless every count is right.
"""

import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson
from rich.console import Console

from consumer.clock import SystemClock
from consumer.errors import Misconfigured, Problem, Unavailable
from consumer.local.command import export_lines
from consumer.local.daemon import DaemonProcess
from consumer.local.demo_place import (
    Place,
    await_decisions,
    gather,
    learn_from_history,
    live_view,
    open_place,
)
from consumer.local.demo_report import explain_a_fraud, show, show_next_steps, surest_fraud
from consumer.local.demo_rest import Kept, RestCheck
from consumer.local.demo_service import Service
from consumer.local.learning import Learned
from consumer.local.proof import Found, Sent, Verdict, judge
from consumer.local.resources import Resources, deploy, prepare, session
from consumer.local.simulator.display import shown
from consumer.local.simulator.faults import Faults
from consumer.local.simulator.history import write_history
from consumer.local.simulator.ledger import Ledger, LedgerWriter
from consumer.local.simulator.producer import Producer
from consumer.local.simulator.traffic import Scenario, Traffic
from consumer.local.stack import Stack
from consumer.settings import SHIPPED, Features

FAULTS = Faults(duplicates=0.005, malformed=0.001, late=0.005)
_READY_LIMIT_S = 180.0
_TICK_S = 0.5
_HOUR_S = 3_600
# Two seconds instead of ten: leases are looked for every half of it. The
# deadline is generous because a laptop runs everything on the same few cores, and a
# pause of any of it is not what the demo is to show.
_OVERRIDES = {
    "FRAUDSTREAM_KCL__FAILOVER_TIME_MS": "2000",
    "FRAUDSTREAM_SCORING__DEADLINE_MS": "2000",
    "FRAUDSTREAM_SCORING__CONNECT_TIMEOUT_MS": "1000",
    "FRAUDSTREAM_API__TIMEOUT_MS": "5000",
}
_WORKER_ID = "FRAUDSTREAM_KCL__WORKER_ID"
_ABOUT_EXPORTS = (
    "# What the daemon of the demo was given, so that commands see what it sees.",
    f"# Without its {_WORKER_ID}: a second daemon needs a name of its own, and must",
    "# unset FRAUDSTREAM_SUPERVISOR__PORT and FRAUDSTREAM_SUPERVISOR__RUN_DIR, the first one's.",
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """
    What the demo simulates, how fast it sends (transactions a second) over how many
    shards, and whether it stays; ``of`` says which variables tell it.
    """

    scenario: Scenario
    rate: int
    shards: int
    keep: bool

    @property
    def id_horizon_s(self) -> int:
        """
        The id horizon that live traffic needs, in whole hours of seconds.

        Days of simulated time pass in seconds here. A shard that is a few seconds
        behind the other is then days behind at a merchant of both, and within the
        shipped horizon its events would rightly be too late to count. So the
        horizon covers all of the live time, with room for what is held back.
        """
        scenario = self.scenario
        live_days = scenario.transactions / (scenario.cards * scenario.per_day)
        return _HOUR_S * math.ceil(1.5 * live_days * 24 + Features().id_horizon_s / _HOUR_S)

    @property
    def overrides(self) -> dict[str, str]:
        """The variables of settings in which the demo differs from the shipped ones."""
        return {"FRAUDSTREAM_FEATURES__ID_HORIZON_S": str(self.id_horizon_s), **_OVERRIDES}

    @classmethod
    def of(cls, environment: Mapping[str, str], end_ms: int) -> "Sizes":
        """
        Read ``DEMO_TRANSACTIONS``, ``DEMO_RATE``, ``DEMO_SHARDS`` and ``KEEP``.

        *end_ms* ends the simulated time, in milliseconds since the epoch. Raises
        Misconfigured for what is no positive whole number.
        """
        problems: list[Problem] = []

        def number(name: str, default: int) -> int:
            text = environment.get(name) or str(default)
            if text.isdecimal() and int(text) > 0:
                return int(text)
            problems.append(Problem("environment", name, repr(text), "a whole number above 0"))
            return default

        sizes = cls(
            Scenario(end_ms=end_ms, transactions=number("DEMO_TRANSACTIONS", 20_000)),
            number("DEMO_RATE", 1_000),
            number("DEMO_SHARDS", 2),
            environment.get("KEEP", "") not in ("", "0"),
        )
        if problems:
            raise Misconfigured(problems)
        return sizes


@dataclass(slots=True)
class Stopwatch:
    """Seconds by stage, in the order they were run, each announced on *console*."""

    console: Console
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str, announcement: str) -> Iterator[None]:
        """Run the block as *stage*."""
        self.console.print(announcement)
        started = time.monotonic()
        yield
        self.seconds[stage] = time.monotonic() - started


def main() -> int:
    """Run the demo; return its exit code."""
    console = Console(stderr=True, highlight=False)
    # Whoever ends us gets the same orderly end as Ctrl-C: every process we started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sizes = Sizes.of(os.environ, SystemClock().now_ms())
        return Demo(sizes, Path(".demo").resolve(), console).run()
    except (Misconfigured, Unavailable) as error:
        console.print(f"the demo could not run: {error}", style="bold red", markup=False)
        return 2 if isinstance(error, Misconfigured) else 1
    except KeyboardInterrupt:
        return 130


@dataclass(frozen=True, slots=True)
class Proof:
    """A run at its end, its place still open: what was sent, what is there, the verdict."""

    place: Place
    daemon: DaemonProcess
    learned: Learned
    ledger: Ledger
    service: Service
    sent: Sent
    found: Found
    verdict: Verdict


class Demo:
    """One run, in a folder of its own that is emptied first."""

    def __init__(self, sizes: Sizes, directory: Path, console: Console) -> None:
        self._sizes = sizes
        self._directory = directory
        self._console = console
        self._watch = Stopwatch(console)
        self._archives: dict[str, str] = {}

    def run(self) -> int:
        """Every step in turn; leaves no process behind unless told to keep running."""
        with ExitStack() as closes:
            proof = self.prove(closes)
            self.tell(proof)
            if self._sizes.keep:
                self._keep(proof)
        return 0 if not proof.verdict.failures else 1

    def prove(self, closes: ExitStack) -> Proof:
        """
        Run the main job and count what came of it; *closes* ends what was started.

        Writes ``summary.json``. Raises Misconfigured and Unavailable.
        """
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(parents=True)
        started = time.monotonic()
        place = self._start(closes)
        traffic, learned = self._learn(place)
        daemon = self._run_daemon(place, learned, closes)
        service = self._serve(daemon, closes)
        ledger, rest = self._send(place, traffic, daemon, service)
        with self._watch.timed("check", "Counting from the outside …"):
            if not self._sizes.keep:
                service.process.stop()
                daemon.stop()
            sent, found, features = gather(place, learned, ledger)
        self._watch.seconds["total"] = time.monotonic() - started
        verdict = judge(sent, found, features, self._watch.seconds, rest)
        body = orjson.dumps(verdict.summary, option=orjson.OPT_INDENT_2)
        self._summary.write_bytes(body + b"\n")
        return Proof(place, daemon, learned, ledger, service, sent, found, verdict)

    def tell(self, proof: Proof) -> None:
        """Print the summary, one caught fraud explained, and where to go on."""
        show(self._console, proof.verdict, self._summary)
        surest = surest_fraud(proof.sent, proof.found)
        explain_a_fraud(self._console, surest)
        if not self._sizes.keep:
            show_next_steps(self._console, None, surest)
            return
        exports = self.write_exports(proof.daemon, proof.service)
        show_next_steps(self._console, exports, surest, proof.service.link())

    def write_exports(self, daemon: DaemonProcess, service: Service) -> Path:
        """
        Write the variables under which another shell sees what *daemon* sees.

        All that it was given, so that a command decides, checks and shows by the same
        settings; but for its name, which a second daemon must not share.
        """
        path = self._directory / "environment.sh"
        given = {**daemon.variables, **service.variables}
        variables = {name: value for name, value in given.items() if name != _WORKER_ID}
        lines = export_lines(variables, external_redis="REDIS_URL" in os.environ)
        # It holds the secret of the demo's access key.
        path.touch(0o600)
        path.write_text("\n".join([*_ABOUT_EXPORTS, *lines]) + "\n", "utf-8")
        return path

    @property
    def _summary(self) -> Path:
        return self._directory / "summary.json"

    def _start(self, stack: ExitStack) -> Place:
        with self._watch.timed("stack", "Starting AWS (emulated) and Redis …"):
            embedded = Stack(self._directory / "stack", redis_url=os.environ.get("REDIS_URL"))
            stack.enter_context(embedded)
            resources = Resources(shards=self._sizes.shards)
            prepare(session(embedded.aws_url), resources)
            return open_place(embedded, resources, self._sizes.overrides, stack)

    def _learn(self, place: Place) -> tuple[Traffic, Learned]:
        scenario = self._sizes.scenario
        announcement = f"Simulating {scenario.history_days:g} days of card traffic into S3 …"
        with self._watch.timed("history", announcement):
            traffic = Traffic(scenario)
            written = write_history(traffic.history(), place.history)
        with self._watch.timed("training", "Running it through the engine, training both models …"):
            with shown("history", written, sys.stderr) as report:
                learned = learn_from_history(place, self._directory / "models", report)
            models = {
                place.settings.scoring.fraud.name: learned.trained.fraud,
                place.settings.scoring.anomaly.name: learned.trained.anomaly,
            }
            self._archives = deploy(session(place.stack.aws_url), models, place.plan.hash)
            place.stack.start_endpoints(models)
        return traffic, learned

    def _run_daemon(self, place: Place, learned: Learned, stack: ExitStack) -> DaemonProcess:
        thresholds = {
            f"FRAUDSTREAM_DECISION__{name.upper()}": "model"
            for name in asdict(learned.trained.thresholds)
        }
        scoring = place.settings.scoring
        archives = {
            "FRAUDSTREAM_SCORING__FRAUD__ARCHIVE": self._archives[scoring.fraud.name],
            "FRAUDSTREAM_SCORING__ANOMALY__ARCHIVE": self._archives[scoring.anomaly.name],
        }
        environment = {
            **place.environment(),
            **thresholds,
            **archives,
            # Another demo, or a daemon, may run on this machine under the host's name.
            _WORKER_ID: f"demo-{os.getpid()}",
        }
        with self._watch.timed("daemon", "Starting the daemon; the KCL takes its leases …"):
            daemon = stack.enter_context(
                DaemonProcess(environment, self._directory, SHIPPED / "fraudstream.yaml")
            )
            daemon.await_ready(self._sizes.shards, _READY_LIMIT_S)
        return daemon

    def _serve(self, daemon: DaemonProcess, stack: ExitStack) -> Service:
        with self._watch.timed("service", "Starting the REST service …"):
            environment = {k: v for k, v in daemon.variables.items() if k != _WORKER_ID}
            return Service.start(environment, daemon.url, self._directory, stack)

    def _send(
        self, place: Place, traffic: Traffic, daemon: DaemonProcess, service: Service
    ) -> tuple[Ledger, RestCheck]:
        path = self._directory / "ledger.ndjson"
        transactions = self._sizes.scenario.transactions
        announcement = (
            f"Sending {transactions:,} live transactions at "
            f"{self._sizes.rate:,.0f}/s over {self._sizes.shards} shards …"
        )
        kept = Kept()
        with LedgerWriter(path) as writer:
            producer = Producer(place.kinesis, place.resources.stream, writer)
            with self._watch.timed("live", announcement), shown("live", transactions) as report:
                producer.send(
                    kept.of(traffic.live(FAULTS)),
                    self._sizes.rate,
                    live_view(place, daemon, report),
                )
            with self._watch.timed("drain", "Waiting until everything sent is decided …"):
                await_decisions(daemon, Ledger.read(path))
            with self._watch.timed("labels", "Labelling some of it, and correcting labels …"):
                producer.send(traffic.afterthoughts(SystemClock().now_ms()))
                await_decisions(daemon, Ledger.read(path))
            with self._watch.timed("rest", "Asking over REST, also with forged signatures …"):
                rest = service.ask(kept, writer, place)
        return Ledger.read(path), rest

    def _keep(self, proof: Proof) -> None:
        """Stay until Ctrl-C or until a part ends."""
        self._console.print("Running until Ctrl-C.")
        with suppress(KeyboardInterrupt):
            while True:
                proof.place.stack.check()
                proof.daemon.check()
                proof.service.process.check()
                time.sleep(_TICK_S)
        proof.service.process.stop()
        proof.daemon.stop()


if __name__ == "__main__":
    sys.exit(main())
