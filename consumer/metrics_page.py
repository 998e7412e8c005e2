"""
The page of all metrics for people: ``python -m consumer.metrics_page > docs/metrics.md``.

The meaning of a metric is the comment above its name in ``metrics.py``, its type and
labels are those it is registered with, so the page repeats nothing by hand.
"""

import io
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from consumer import metrics
from consumer.health import Situation
from consumer.metrics import AccessMetrics, ApiMetrics, Metrics, SupervisorMetrics
from consumer.status import CheckpointAge

_HEAD = """\
# Metrics

<!-- Written by `python -m consumer.metrics_page > docs/metrics.md`; a test holds it in step. -->

What `/metrics` of the daemon shows, in Prometheus's text format, added up over its workers. A
counter starts when the daemon does; a histogram has the series `_bucket`, `_sum` and `_count`. A
series of a label appears with its first event. No label carries a card, a transaction or a
sequence number. `fraudstream status` prints the ones to look at first.

| worth an alert | because |
|---|---|
| `max(fraudstream_checkpoint_age_seconds) > 120` | a shard decides nothing that is safe, or hangs |
| `max(fraudstream_millis_behind_latest) > 60000` for 5 minutes | decisions come too late |
| `increase(fraudstream_degraded_total[5m]) > 100` | a model endpoint is sick |
| `increase(fraudstream_second_assessments_total{outcome="worse"}[15m]) > 0` | an outage hid risk |
| `increase(fraudstream_dead_letters_total[15m]) > 0` | a producer sends what cannot be decided |
| `increase(fraudstream_conflicts_total[1h]) > 0` | two transactions share an id |
| `increase(fraudstream_restarts_total[15m]) > 2` | workers die; the log says at what |
| `increase(fraudstream_rules_refused_total[15m]) > 0` | changed rules or lists are not in force |
| `increase(fraudstream_rules_tripped_total[15m]) > 0` | a change declined too much; not in force |
| `max(fraudstream_rules_restored) > 0` | the rules in the files cannot be used |
| `increase(fraudstream_api_not_let_in_total[5m]) > 100` | somebody tries, or signs wrongly |
| `increase(fraudstream_api_access_errors_total[15m]) > 0` | changed access keys are not in force |
| `sum(fraudstream_rules_mode{mode!="live"}) > 0` for 1 hour | rules decide nothing there |

| name | type | labels | meaning |
|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Registered:
    """What a metric is registered as."""

    kind: str
    labels: tuple[str, ...]


class _Catalogue(CollectorRegistry):
    """A registry that remembers what was registered: no other shows the names of labels."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, Registered] = {}

    def register(self, collector: Collector) -> None:
        """Remember *collector* by the names of its families."""
        super().register(collector)
        for family in getattr(collector, "describe", collector.collect)():
            owner = collector if hasattr(collector, "_labelnames") else family
            labels = tuple(getattr(owner, "_labelnames", ()))
            name = family.name + ("_total" if family.type == "counter" else "")
            self.found[name] = Registered(family.type, labels)


def registered() -> dict[str, Registered]:
    """Every metric that the daemon exports, by the names in ``metrics.py``."""
    catalogue = _Catalogue()
    Metrics(catalogue)
    SupervisorMetrics(catalogue, "")
    AccessMetrics(catalogue)
    ApiMetrics(catalogue)
    catalogue.register(CheckpointAge(_nothing))
    return catalogue.found


def _nothing() -> Situation:
    return Situation(0.0, kcl_running=False, stopping=False, held="", initialized_s=None, states=())


def meanings() -> dict[str, str]:
    """Name → the comment above it in ``metrics.py``, in the order of the file."""
    text = Path(metrics.__file__).read_text("utf-8")
    found: dict[str, str] = {}
    comment: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and token.start[1] == 0:
            comment.append(token.string.removeprefix("#").strip())
        elif token.type == tokenize.STRING and token.string.startswith('"fraudstream_'):
            found[token.string.strip('"')] = " ".join(comment)
            comment = []
        elif token.type in (tokenize.NL, tokenize.NEWLINE) and not token.line.strip():
            comment = []
    return found


def render_page() -> str:
    """The page, in Markdown."""
    return _HEAD + "\n".join(_rows()) + "\n"


def _rows() -> Iterator[str]:
    known = registered()
    for name, meaning in meanings().items():
        entry = known[name]
        labels = ", ".join(f"`{label}`" for label in entry.labels)
        shown = f"{name}_info" if entry.kind == "info" else name
        yield f"| `{shown}` | {entry.kind} | {labels} | {meaning} |"


if __name__ == "__main__":
    sys.stdout.write(render_page())
