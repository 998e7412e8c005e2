"""Where a demo happens: clients for the stack, and what is read back from it."""

import random
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import redis
from botocore.config import Config

from consumer.adapters.redis.connection import command, connect
from consumer.adapters.redis.documents import PREFIX
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.adapters.redis.outbox import KEY as OUTBOX
from consumer.adapters.redis.search import RedisSearch, count_documents
from consumer.clock import SystemClock
from consumer.configuration import load
from consumer.errors import Unavailable
from consumer.features.plan import Plan
from consumer.features.specification import load_plan
from consumer.features.warming import WarmingFeatures
from consumer.local.daemon import DaemonProcess
from consumer.local.findings import (
    build_oracle,
    check_features,
    check_labelled,
    check_vectors,
    live_event,
    live_verdicts,
    read_found,
    read_sent,
)
from consumer.local.learning import Learned, learn
from consumer.local.proof import FeatureCheck, Found, Sent
from consumer.local.resources import Resources, session
from consumer.local.simulator.display import Report
from consumer.local.simulator.history import Bucket
from consumer.local.simulator.ledger import Ledger
from consumer.local.simulator.producer import Progress
from consumer.local.stack import Stack
from consumer.outside import build_stores, build_warming
from consumer.settings import SHIPPED, Settings
from consumer.verification import DocumentReader, Verification, Wanted, verify

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient
    from mypy_boto3_s3 import S3Client

SAMPLED, HOTTEST, SEED = 200, 5, 20
_HISTORY = "fraudstream-history"
_DRAIN_LIMIT_S = 120.0
_POLL_S = 0.25
_SEARCH_S = 20.0


@dataclass(frozen=True, slots=True)
class Place:
    """
    A running stack with everything that speaks to it.

    ``counting`` notes the age of what ``store`` keeps, as a worker does.
    """

    stack: Stack
    resources: Resources
    overrides: Mapping[str, str]
    settings: Settings
    plan: Plan
    kinesis: "KinesisClient"
    s3: "S3Client"
    redis: redis.Redis
    store: RedisFeatureStore
    counting: WarmingFeatures
    history: Bucket

    def environment(self) -> Mapping[str, str]:
        """The variables that point a process at this place."""
        return {**self.stack.environment(), **self.overrides}

    def rows(self) -> tuple[str, str]:
        """Bucket and prefix of Firehose's rows."""
        return self.resources.delivery_bucket, self.resources.delivery_prefix

    def letters(self) -> tuple[str, str]:
        """Bucket and prefix of the dead letters."""
        return self.settings.dead_letters.bucket, self.settings.dead_letters.prefix


def open_place(
    stack: Stack, resources: Resources, overrides: Mapping[str, str], closes: ExitStack
) -> Place:
    """
    Connect to a started *stack*; *closes* closes the connections.

    *overrides* are variables for settings that differ from the shipped ones.

    Empties nothing: on a Redis named by REDIS_URL earlier documents would be
    counted too. Raises Unavailable when documents of another run are there.
    """
    settings = load(SHIPPED / "fraudstream.yaml", {**stack.environment(), **overrides}).settings
    plan = load_plan(settings.features.path, settings.events.base_currency)
    stores = build_stores(settings, plan, closes)
    client = connect(stack.redis_url, connect_timeout_s=5, timeout_s=30)
    closes.enter_context(closing(client))
    if count_documents(client):
        raise Unavailable(
            "redis", "the server of REDIS_URL holds documents; the demo needs an empty one"
        )
    aws = session(stack.aws_url)
    # The producer sends again what was refused; a client that did so too would send twice.
    once = Config(retries={"max_attempts": 0})
    return Place(
        stack=stack,
        resources=resources,
        overrides=overrides,
        settings=settings,
        plan=plan,
        kinesis=closes.enter_context(closing(aws.client("kinesis", config=once))),
        s3=closes.enter_context(closing(aws.client("s3"))),
        redis=client,
        store=stores.features,
        counting=build_warming(settings, plan, stores.features, closes),
        history=Bucket(aws.client("s3"), _HISTORY, "history/"),
    )


def learn_from_history(place: Place, folder: Path, report: Report) -> Learned:
    """Train both models on the history in S3; see ``learn``."""
    folder.mkdir(parents=True, exist_ok=True)
    return learn(place.history, place.settings, place.plan, place.counting, folder, report)


def live_view(place: Place, daemon: DaemonProcess, report: Report) -> Callable[[Progress], None]:
    """What the producer calls while it sends: shows how many are sent and decided."""
    last_s = 0.0

    def on_progress(progress: Progress) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s < _POLL_S:
            return
        last_s = now_s
        place.stack.check()
        daemon.check()
        report(progress.sent, f"{count_documents(place.redis):,} decided")

    return on_progress


def await_decisions(daemon: DaemonProcess, ledger: Ledger) -> None:
    """
    Wait until every shard is checkpointed at the last record sent to it.

    A checkpoint covers only what is stored and acknowledged, so nothing is on
    its way then. Reaching the limit is no error here: what is missing is for
    the judge to name.
    """
    last: dict[str, int] = {}
    for entry in ledger.entries:
        last[entry.shard_id] = max(last.get(entry.shard_id, 0), int(entry.sequence_number))
    deadline = time.monotonic() + _DRAIN_LIMIT_S
    while time.monotonic() < deadline:
        daemon.check()
        done = daemon.checkpoints()
        if all(done.get(shard, 0) >= number for shard, number in last.items()):
            return
        time.sleep(_POLL_S)


def read_document(place: Place, transaction_id: str) -> Mapping[str, Any]:
    """The stored document of a transaction. Raises KeyError where there is none."""
    body = command(place.redis, "JSON.GET", PREFIX + transaction_id)
    if body is None:
        raise KeyError(transaction_id)
    document: Mapping[str, Any] = orjson.loads(body)
    return document


def await_rows(place: Place) -> None:
    """Wait until Firehose has every row of what was decided over REST, or the limit is over."""
    deadline_s = time.monotonic() + _DRAIN_LIMIT_S
    while time.monotonic() < deadline_s and command(place.redis, "XLEN", OUTBOX):
        time.sleep(_POLL_S)


def gather(place: Place, learned: Learned, ledger: Ledger) -> tuple[Sent, Found, FeatureCheck]:
    """Read everything back and compare the features with the oracle."""
    found = read_found(
        place.redis,
        place.s3,
        {"rows": place.rows(), "letters": place.letters()},
        place.stack.endpoints_url,
        verify_features(place),
    )
    horizon_s = place.settings.features.id_horizon_s
    live = [live_event(entry) for entry in ledger.transactions.values()]
    verdicts = [*learned.verdicts, *live_verdicts(ledger)]
    everything = build_oracle(place.plan, horizon_s, [*learned.events, *live], verdicts)
    state = check_features(
        place.store, place.plan, everything, sampled=SAMPLED, hottest=HOTTEST, seed=SEED
    )
    labelled = check_labelled(place.store, place.plan, everything, ledger)
    cards = sorted({entry.card_id for entry in ledger.transactions.values()})
    chosen = frozenset(random.Random(SEED).sample(cards, min(SAMPLED, len(cards))))  # noqa: S311 - a sample
    past = [event for event in learned.events if event.keys["card_id"] in chosen]
    before = build_oracle(place.plan, horizon_s, past, entities={"card"})
    vectors = check_vectors(found.documents, place.plan, before, ledger, chosen)
    return read_sent(ledger), found, state + labelled + vectors


def verify_features(place: Place) -> Verification | None:
    """Recompute a sample of the decisions from their documents, as ``features verify`` does."""
    now_ms = SystemClock().now_ms()
    with closing(RedisSearch(place.redis, _SEARCH_S)) as search:
        return verify(
            DocumentReader(search, place.plan),
            place.plan,
            Wanted(SAMPLED, (0, now_ms), SEED),
            horizon_s=place.settings.features.id_horizon_s,
            lifetime_s=place.settings.redis.document_ttl_s,
            now_ms=now_ms,
        )
