"""
What all cases share: one embedded AWS, one Redis, endpoints, Firehose, the gateway.

Endpoints answer by a formula of the amount, so that the checker knows each score; the
Firehose server keeps the account of the rows it accepted.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import redis

from consumer.adapters.redis.connection import connect
from consumer.features.plan import Plan
from consumer.features.specification import load_plan
from consumer.local.resources import Resources, prepare, session
from consumer.local.stack import Stack
from consumer.settings import Settings
from tests.chaos.gateway import Gateway
from tests.firehose_server import FirehoseServer, accept
from tests.sagemaker_server import Handler, Request, SageMakerServer, anomaly_scores, predictions

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ROOT = Path(__file__).parents[2]
SETTINGS = Settings()
RESOURCES = Resources(shards=1)


def score(amount: float) -> tuple[float, float]:
    """The fraud and the anomaly score of a transaction: a tenth are declined or reviewed."""
    cents = round(amount * 100)
    fraud = (cents * 7919 % 1_000) / 1_000
    # The adapter keeps twelve decimals.
    return round(fraud**8, 9), (cents * 104_729 % 1_000) / 320


def score_by_formula(handler: Handler, request: Request) -> None:
    """Answer as the endpoint that the request names."""
    scores = [score(amount) for amount in request.first_values]
    if "anomaly" in request.path:
        handler.reply(anomaly_scores([anomaly for _, anomaly in scores]))
    else:
        handler.reply(predictions([fraud for fraud, _ in scores]))


@dataclass(frozen=True, slots=True)
class Lab:
    """Everything that runs beside the workers."""

    folder: Path
    stack: Stack
    redis: redis.Redis
    s3: "S3Client"
    endpoints: SageMakerServer
    firehose: FirehoseServer
    gateway: Gateway
    plan: Plan

    def heal(self) -> None:
        """Undo what a case may have planned for the shared servers."""
        self.gateway.heal()
        self.endpoints.always(score_by_formula)
        self.firehose.always(accept)


@contextmanager
def open_lab(folder: Path) -> Iterator[Lab]:
    """Start everything; logs go to *folder*."""
    with (
        Stack(folder) as stack,
        SageMakerServer() as endpoints,
        FirehoseServer() as firehose,
        Gateway(stack.aws_url, firehose.url) as gateway,
        closing(connect(stack.redis_url, connect_timeout_s=5, timeout_s=30)) as client,
        closing(session(stack.aws_url).client("s3")) as s3,
    ):
        prepare(session(stack.aws_url), RESOURCES)
        plan = load_plan(SETTINGS.features.path, SETTINGS.events.base_currency)
        lab = Lab(folder, stack, client, s3, endpoints, firehose, gateway, plan)
        lab.heal()
        yield lab
