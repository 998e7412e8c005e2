"""
The composition root of the commands that look and change nothing.

Apart from ``app.py``, so that a question does not import the KCL and the engine first.
"""

from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consumer.adapters import aws
from consumer.adapters.leases import read_leases
from consumer.adapters.redis.connection import connect
from consumer.adapters.redis.search import RedisSearch
from consumer.adapters.redis.warmth import RedisWarmth
from consumer.adapters.shards import list_shards, read_lag_ms
from consumer.features.warmth import Record, decode_record
from consumer.fleet import Lease, Shard
from consumer.settings import Aws, Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient

# The server gives up before the client does, so that a partial answer still arrives.
_SEARCH_SHARE = 0.8
_CONNECT_TIMEOUT_S = 2.0
_READ_TIMEOUT_S = 10.0


def open_search(
    settings: Settings, stack: ExitStack, *, timeout_s: float | None = None
) -> RedisSearch:
    """
    The decision documents; *stack* closes the connection.

    *timeout_s* is the longest wait for an answer, if not that of the settings.
    """
    redis = settings.redis
    timeout_s = timeout_s or redis.timeout_s
    client = connect(
        (redis.documents_url or redis.url).get_secret_value(),
        connect_timeout_s=redis.connect_timeout_s,
        timeout_s=timeout_s,
    )
    stack.enter_context(closing(client))
    return stack.enter_context(closing(RedisSearch(client, timeout_s * _SEARCH_SHARE)))


def read_warmth(settings: Settings) -> Record | None:
    """
    Since when entity state keeps what, None before the first event.

    Raises Unavailable, and Misconfigured for a record of another version.
    """
    redis = settings.redis
    client = connect(
        (redis.features_url or redis.url).get_secret_value(),
        connect_timeout_s=redis.connect_timeout_s,
        timeout_s=redis.timeout_s,
    )
    with closing(client), closing(RedisWarmth(client)) as warmth:
        data = warmth.read()
    return None if data is None else decode_record(data)


@dataclass(frozen=True, slots=True)
class Fleet:
    """The stream and the lease table. Every method raises Unavailable."""

    dynamodb: "DynamoDBClient"
    kinesis: "KinesisClient"
    table: str
    stream: str

    def leases(self) -> list[Lease] | None:
        """The leases as they are now; None while there is no table of them."""
        return read_leases(self.dynamodb, self.table)

    def shards(self) -> list[Shard]:
        """The shards of the stream."""
        return list_shards(self.kinesis, self.stream)

    def lag_ms(self, lease: Lease, now_ms: int) -> int | None:
        """The age of the oldest record after the checkpoint, see ``read_lag_ms``."""
        return read_lag_ms(self.kinesis, self.stream, lease, now_ms)


def open_fleet(settings: Settings, stack: ExitStack) -> Fleet:
    """What tells how the stream is worked; *stack* closes the connections."""
    dynamodb = aws.client(
        "dynamodb",
        dynamodb_address(settings),
        connect_timeout_s=_CONNECT_TIMEOUT_S,
        read_timeout_s=_READ_TIMEOUT_S,
        max_pool_connections=1,
    )
    kinesis = aws.client(
        "kinesis",
        settings.aws,
        connect_timeout_s=_CONNECT_TIMEOUT_S,
        read_timeout_s=_READ_TIMEOUT_S,
        max_pool_connections=1,
    )
    return Fleet(
        stack.enter_context(closing(dynamodb)),
        stack.enter_context(closing(kinesis)),
        settings.kcl.application_name,
        settings.kcl.stream_name,
    )


def dynamodb_address(settings: Settings) -> Aws:
    """Where AWS is for DynamoDB, which may have an address of its own."""
    url = settings.kcl.dynamodb_endpoint_url or settings.aws.endpoint_url
    return settings.aws.model_copy(update={"endpoint_url": url})
