"""
The main job, small: the real daemon on the real KCL, Redis, endpoints and embedded AWS.

One run, on which the tests stand in this order: what it proved, then that the
checker sees what is tampered with in the very places it reads, then that
nothing is left running.
"""

import io
import os
import stat
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console

from consumer.adapters.redis.connection import command
from consumer.adapters.redis.documents import PREFIX
from consumer.adapters.redis.warmth import RedisWarmth
from consumer.configuration import load
from consumer.features.warmth import decode_record, full_from, needs_of
from consumer.local.demo import Demo, Proof, Sizes
from consumer.local.demo_place import gather
from consumer.local.demo_rest import RestCheck
from consumer.local.findings import build_oracle, check_labelled, live_event, live_verdicts
from consumer.local.proof import FeatureCheck, Verdict, judge
from consumer.local.simulator.events import RecordKind
from consumer.local.simulator.ledger import Entry, Ledger
from consumer.local.simulator.traffic import Scenario
from consumer.settings import SHIPPED

pytestmark = pytest.mark.timeout(300)

# Learning needs 30 days to warm up, 10 until labels are in, and frauds in what is left.
# So few cards and merchants that the checker reads every one of them.
SCENARIO = Scenario(
    end_ms=1_795_000_000_000,
    cards=140,
    merchants=60,
    per_day=6,
    history_days=45,
    transactions=2_000,
    fraud_share=0.02,
)
SUMMARY = {
    "ok",
    "sent",
    "unique",
    "duplicates",
    "malformed",
    "decided",
    "documents",
    "firehose_rows",
    "firehose_unique",
    "dead_letters",
    "decisions",
    "rest",
    "labels",
    "reasons",
    "rules",
    "degraded",
    "endpoint_requests",
    "features_checked",
    "features_wrong",
    "online_offline",
    "distinct_scores",
    "latency_ms",
    "roc_auc",
    "average_precision",
    "seconds",
}
MARK = "DEMO_UNDER_TEST"
# The newest cumulative row ends an entity's state: time u32, count u24, sum u48, little-endian.
COUNT, SUM = slice(-9, -6), slice(-6, None)


@dataclass(frozen=True, slots=True)
class Run:
    """The demo at its end, everything but the daemon still running."""

    demo: Demo
    proof: Proof
    directory: Path
    output: io.StringIO
    closes: ExitStack

    def verdict_now(self) -> Verdict:
        """Read everything back once more."""
        proof = self.proof
        return judge(*gather(proof.place, proof.learned, proof.ledger), {}, RestCheck())

    def label_check(self, ledger: Ledger) -> FeatureCheck:
        """Compare what labels left in entity state with an oracle that saw those of *ledger*."""
        place, learned = self.proof.place, self.proof.learned
        events = [*learned.events, *map(live_event, ledger.transactions.values())]
        verdicts = [*learned.verdicts, *live_verdicts(ledger)]
        horizon_s = place.settings.features.id_horizon_s
        oracle = build_oracle(place.plan, horizon_s, events, verdicts)
        return check_labelled(place.store, place.plan, oracle, ledger)

    def any_transaction(self) -> str:
        return next(iter(self.proof.ledger.transactions))

    def busiest(self, field: str) -> str:
        """The card or merchant with the most transactions."""
        counts = Counter(event.keys[field] for event in self.proof.learned.events)
        live = self.proof.ledger.transactions.values()
        counts.update(getattr(entry, field) for entry in live)
        return max(counts, key=counts.__getitem__)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    directory = tmp_path_factory.mktemp("demo") / "run"
    output = io.StringIO()
    sizes = Sizes(SCENARIO, rate=1_000, shards=2, keep=False)
    demo = Demo(sizes, directory, Console(file=output, width=200, highlight=False))
    with pytest.MonkeyPatch.context() as environment, ExitStack() as closes:
        environment.delenv("REDIS_URL", raising=False)
        environment.setenv(MARK, str(directory))
        yield Run(demo, demo.prove(closes), directory, output, closes)


def test_live_traffic_is_shorter_than_the_id_horizon(run: Run) -> None:
    """One shard may be worked off long before the other; a merchant's events still count."""
    times_ms = [entry.event_time_ms for entry in run.proof.ledger.transactions.values()]
    horizon_s = run.proof.place.settings.features.id_horizon_s
    assert max(times_ms) - min(times_ms) < horizon_s * 1_000


def test_after_its_history_every_feature_is_full_and_every_rule_decides(run: Run) -> None:
    documents = run.proof.found.documents.values()
    assert not any("warming" in as_object(document["rules"]) for document in documents)
    data = RedisWarmth(run.proof.place.redis).read()
    assert data is not None
    full_s = full_from(needs_of(run.proof.place.plan), decode_record(data))
    live = run.proof.ledger.transactions.values()
    assert max(full_s.values()) < min(entry.event_time_ms for entry in live) / 1_000
    assert run.proof.verdict.summary["rules"]


def as_object(value: object) -> dict[str, object]:
    assert isinstance(value, dict)
    return value


def test_every_transaction_is_decided_exactly_once_with_right_features(run: Run) -> None:
    summary: dict[str, Any] = run.proof.verdict.summary
    assert run.proof.verdict.failures == []
    assert summary["ok"] is True
    unique = {summary[key] for key in ("unique", "decided", "documents", "firehose_unique")}
    rest = summary["rest"]
    (count,) = unique
    assert count == SCENARIO.transactions + rest["decided"]
    assert sum(summary["decisions"].values()) == count
    assert summary["sent"] == count + summary["duplicates"] + summary["malformed"]
    assert rest["shared_equal"] == rest["shared_with_stream"] >= rest["decided"] > 100
    assert rest["forged_refused"] == rest["forged"] > 0
    assert rest["signed_requests"] > rest["shared_with_stream"] + 100
    assert summary["duplicates"] > 0
    assert summary["dead_letters"] == summary["malformed"] > 0
    assert summary["degraded"] == 0
    assert summary["features_wrong"] == 0
    assert summary["features_checked"] > 10_000
    assert summary["online_offline"]["compared"] > 300
    assert summary["online_offline"]["different_within_a_shard"] == 0
    assert min(summary["distinct_scores"].values()) >= 100
    assert summary["endpoint_requests"] > 0
    assert summary["labels"]["sent"] > summary["labels"]["due"] > summary["labels"]["corrected"] > 0


def test_documents_and_entity_state_show_the_newest_label(run: Run) -> None:
    """Labels of both kinds stand in the end, so that neither can be right by accident."""
    sent = run.proof.sent
    assert {sent.labels[name] for name in sent.corrected} == {"fraud", "legitimate"}
    assert run.label_check(run.proof.ledger).checked > 0
    # An oracle that missed the corrections expects other values than those that stand.
    entries = run.proof.ledger.entries
    first: dict[str, Entry] = {}
    for entry in entries:
        if entry.record is RecordKind.LABEL:
            first.setdefault(entry.transaction_id, entry)
    others = [entry for entry in entries if entry.record is not RecordKind.LABEL]
    assert run.label_check(Ledger((*others, *first.values()))).wrong > 0


def test_another_shell_gets_what_the_daemon_was_given(run: Run) -> None:
    path = run.demo.write_exports(run.proof.daemon, run.proof.service)
    given = subprocess.run(
        ["/bin/sh", "-c", '. "$1" && exec env -0', "sh", path],
        env={},
        capture_output=True,
        check=True,
    )
    pairs = (line.partition("=") for line in given.stdout.decode().split("\0"))
    exported = {name: value for name, _, value in pairs if name not in ("", "PWD", "_", "SHLVL")}
    daemon = dict(run.proof.daemon.variables)
    assert daemon.pop("FRAUDSTREAM_KCL__WORKER_ID").startswith("demo-")
    service = dict(run.proof.service.variables)
    assert exported == {**daemon, **service}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key_id, _, secret = service["DEMO_API_USER"].partition(":")
    assert {key_id, secret} & set(run.output.getvalue().split()) == set()
    settings = load(SHIPPED / "fraudstream.yaml", exported).settings
    decision = settings.decision
    assert {decision.fraud_review, decision.fraud_decline, decision.anomaly_review} == {"model"}
    assert settings.scoring.fraud.archive
    assert settings.scoring.anomaly.archive
    assert "# Without its FRAUDSTREAM_KCL__WORKER_ID" in path.read_text()


def test_the_summary_holds_all_it_promises(run: Run) -> None:
    summary = orjson.loads((run.directory / "summary.json").read_bytes())
    assert summary.keys() == SUMMARY
    assert summary["distinct_scores"].keys() == {"fraud", "anomaly"}
    assert summary["latency_ms"].keys() == {"receive_to_decision", "arrival_to_decision"}
    for latency in summary["latency_ms"].values():
        assert latency.keys() == {"p50", "p99", "p999"}
        assert 0 <= latency["p50"] <= latency["p99"] <= latency["p999"]
    assert 0.5 < summary["roc_auc"] <= 1.0
    assert 0.0 < summary["average_precision"] <= 1.0
    assert {"history", "training", "live", "total"} <= summary["seconds"].keys()


def test_a_person_is_told_the_proof_one_fraud_and_where_to_go_on(run: Run) -> None:
    run.demo.tell(run.proof)
    told = run.output.getvalue()
    assert "Simulating 45 days of card traffic" in told
    assert "Proved: every transaction was decided exactly once, with right features." in told
    assert "One fraud it caught:" in told
    assert "Go on with:" in told


@contextmanager
def without_a_document(run: Run) -> Iterator[None]:
    key = PREFIX + run.any_transaction()
    client = run.proof.place.redis
    kept, ttl_ms = client.dump(key), client.pttl(key)
    assert kept is not None
    client.delete(key)
    yield
    client.restore(key, ttl_ms, kept)


@contextmanager
def with_another_outcome(run: Run) -> Iterator[None]:
    """The decision in Redis is no longer the one that was published."""
    key = PREFIX + run.any_transaction()
    client = run.proof.place.redis
    (kept,) = orjson.loads(command(client, "JSON.GET", key, "$.decision.outcome"))
    command(client, "JSON.SET", key, "$.decision.outcome", '"forged"')
    yield
    command(client, "JSON.SET", key, "$.decision.outcome", orjson.dumps(kept))


@contextmanager
def with_a_vector_off_by_one(run: Run) -> Iterator[None]:
    """A feature is not the one that the decision should have been made on."""
    key = PREFIX + run.any_transaction()
    client = run.proof.place.redis
    command(client, "JSON.NUMINCRBY", key, "$.features.card_count_30d", "1")
    yield
    command(client, "JSON.NUMINCRBY", key, "$.features.card_count_30d", "-1")


@contextmanager
def with_a_repeated_row(run: Run) -> Iterator[None]:
    bucket, prefix = run.proof.place.rows()
    s3 = run.proof.place.s3
    first = s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"][0]["Key"]
    rows = s3.get_object(Bucket=bucket, Key=first)["Body"].read().splitlines(keepends=True)
    s3.put_object(Bucket=bucket, Key=f"{first}-again", Body=rows[0])
    yield
    s3.delete_object(Bucket=bucket, Key=f"{first}-again")


@contextmanager
def without_an_object(run: Run, place: tuple[str, str]) -> Iterator[None]:
    bucket, prefix = place
    s3 = run.proof.place.s3
    key = s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"][0]["Key"]
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    s3.delete_object(Bucket=bucket, Key=key)
    yield
    s3.put_object(Bucket=bucket, Key=key, Body=body)


def without_rows(run: Run) -> AbstractContextManager[None]:
    return without_an_object(run, run.proof.place.rows())


def without_a_dead_letter(run: Run) -> AbstractContextManager[None]:
    return without_an_object(run, run.proof.place.letters())


@contextmanager
def with_a_counter_off_by_one(run: Run, entity: str, field: slice) -> Iterator[None]:
    key = f"f:{{{entity}:{run.busiest(f'{entity}_id')}}}"
    client = run.proof.place.redis
    kept = client.get(key)
    assert isinstance(kept, bytes)
    altered = bytearray(kept)
    width = len(altered[field])
    altered[field] = (int.from_bytes(altered[field], "little") + 1).to_bytes(width, "little")
    client.set(key, bytes(altered), keepttl=True)
    yield
    client.set(key, kept, keepttl=True)


def with_a_merchants_count_off_by_one(run: Run) -> AbstractContextManager[None]:
    return with_a_counter_off_by_one(run, "merchant", COUNT)


def with_a_cards_sum_off_by_a_cent(run: Run) -> AbstractContextManager[None]:
    return with_a_counter_off_by_one(run, "card", SUM)


@pytest.mark.parametrize(
    ("tampering", "complaint"),
    [
        (without_a_document, "1 transactions are missing in Redis"),
        (with_another_outcome, "1 rows differ from their document"),
        (with_a_vector_off_by_one, "card_count_30d was"),
        (with_a_repeated_row, "1 transactions have more than one row"),
        (without_rows, "transactions are missing in S3"),
        (without_a_dead_letter, "malformed records were sent"),
        (with_a_merchants_count_off_by_one, "differ from the oracle: merchant"),
        (with_a_cards_sum_off_by_a_cent, "differ from the oracle: card"),
    ],
)
def test_the_checker_sees_what_was_tampered_with(
    run: Run, tampering: Callable[[Run], AbstractContextManager[None]], complaint: str
) -> None:
    with tampering(run):
        verdict = run.verdict_now()
    assert verdict.summary["ok"] is False
    assert any(complaint in failure for failure in verdict.failures), verdict.failures


def test_the_checker_is_content_once_all_of_it_is_undone(run: Run) -> None:
    again = run.verdict_now()
    assert again.failures == []
    assert again.summary["ok"] is True


def test_no_process_is_left(run: Run) -> None:
    assert marked_processes(run.directory), "the stack is looked for in the wrong way"
    run.closes.close()
    assert marked_processes(run.directory) == {}


def marked_processes(directory: Path) -> dict[int, str]:
    """Process id → command of everything that inherited the mark from us."""
    mark = f"{MARK}={directory}".encode()
    found = {}
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal() or int(process.name) == os.getpid():
            continue
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found[int(process.name)] = (process / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue  # it ended meanwhile, or is another user's
    return found
