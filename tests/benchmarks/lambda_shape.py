"""
The worker beside the shape of a function that handles one record after the other.

That shape is how the reference architectures are usually written: for each record
a few single Redis commands, two invocations of endpoints one after the other,
one document, one PutRecord; every client with its defaults. Both run in turns on
the same servers, so that what else the machine does hits both.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import boto3

from consumer.adapters.redis.connection import command
from consumer.local.resources import ACCESS_KEY, REGION
from tests.benchmarks.feed import Feed
from tests.benchmarks.measured import Measured, median_of
from tests.benchmarks.processes import cpu_s
from tests.benchmarks.rig import Rig, running_rig

_TURNS = 7
_RECORDS = 300
_DELIVERIES, _DELIVERY = 3, 1_000
_TTL_S = 172_800


class PerRecord:
    """Handles one event as a hand-written function does."""

    def __init__(self, rig: Rig) -> None:
        scoring, firehose = rig.settings.scoring, rig.settings.firehose
        self._redis = rig.client
        self._fraud, self._anomaly = scoring.fraud.name, scoring.anomaly.name
        self._stream = firehose.stream_name
        session = boto3.session.Session(
            aws_access_key_id=ACCESS_KEY, aws_secret_access_key=ACCESS_KEY, region_name=REGION
        )
        self._runtime = session.client("sagemaker-runtime", endpoint_url=rig.endpoints_url)
        self._firehose = session.client("firehose", endpoint_url=rig.firehose_url)

    def close(self) -> None:
        """Close both clients."""
        self._runtime.close()
        self._firehose.close()

    def handle(self, data: bytes) -> None:
        """Count, score twice, store and send *data*."""
        event = json.loads(data)
        card = self._count(f"lambda:card:{event['card_id']}", event["amount"])
        merchant = self._count(f"lambda:merchant:{event['merchant_id']}", event["amount"])
        row = ",".join(str(value) for value in (event["amount"], *card, *merchant)).encode()
        scores = [self._score(name, row) for name in (self._fraud, self._anomaly)]
        document = json.dumps({**event, "scores": scores}).encode()
        # Not below tx:, which is indexed and counted as the worker's.
        key = f"lambda:{event['transaction_id']}"
        command(self._redis, "JSON.SET", key, "$", document)
        self._redis.expire(key, _TTL_S)
        self._firehose.put_record(
            DeliveryStreamName=self._stream, Record={"Data": document + b"\n"}
        )

    def _count(self, key: str, amount: float) -> tuple[int, float]:
        """Count and sum of one entity: three commands, each a round trip."""
        number = self._redis.hincrby(key, "count", 1)
        total = self._redis.hincrbyfloat(key, "sum", amount)
        self._redis.expire(key, _TTL_S)
        return number, float(total)

    def _score(self, endpoint: str, row: bytes) -> float:
        answer = self._runtime.invoke_endpoint(
            EndpointName=endpoint, ContentType="text/csv", Accept="application/json", Body=row
        )
        body: dict[str, Any] = json.loads(answer["Body"].read())
        (scores,) = body.values()
        return float(scores[0]["score"])


def measure(directory: Path) -> dict[str, Measured]:
    """Seven turns of each, after one that is not counted."""
    feed = Feed((1 + _TURNS) * (_RECORDS + _DELIVERIES * _DELIVERY))
    single: list[float] = []
    batched: list[float] = []
    cpu: list[float] = []
    with running_rig(directory) as rig, ExitStack() as stack:
        rig.warm(feed.history())
        driver = stack.enter_context(rig.worker())
        function = stack.enter_context(closing(PerRecord(rig)))
        for _ in range(1 + _TURNS):
            events = feed.take(_RECORDS)
            deliveries = feed.deliveries(_DELIVERIES, _DELIVERY)
            before_s = cpu_s(os.getpid())
            single.append(_RECORDS / _seconds([partial(function.handle, e.data) for e in events]))
            cpu.append((cpu_s(os.getpid()) - before_s) / _RECORDS * 1e6)
            taken_s = _seconds([partial(delivery.send, driver) for delivery in deliveries])
            batched.append(_DELIVERIES * _DELIVERY / taken_s)
    ratios = [many / one for one, many in zip(single, batched, strict=True)]
    return {
        "lambda_throughput": median_of(single[1:]),
        "lambda_cpu": median_of(cpu[1:]),
        "lambda_ratio": median_of(ratios[1:]),
    }


def _seconds(calls: Sequence[Callable[[], None]]) -> float:
    started_s = time.perf_counter()
    for call in calls:
        call()
    return time.perf_counter() - started_s
