"""The stream's shards, and how old the first record after a checkpoint is."""

from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from consumer.errors import Unavailable
from consumer.fleet import TRIM_HORIZON, Lease, Shard
from consumer.model import ShardId

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient


def list_shards(kinesis: "KinesisClient", stream: str) -> list[Shard]:
    """Every shard that *stream* still holds records of. Raises Unavailable."""
    try:
        pages = kinesis.get_paginator("list_shards").paginate(StreamName=stream)
        shards = [shard for page in pages for shard in page["Shards"]]
    except (BotoCoreError, ClientError) as error:
        raise Unavailable("kinesis", str(error)) from error
    return [
        Shard(
            ShardId(shard["ShardId"]),
            tuple(
                ShardId(parent)
                for parent in (shard.get("ParentShardId"), shard.get("AdjacentParentShardId"))
                if parent
            ),
            closed="EndingSequenceNumber" in shard["SequenceNumberRange"],
        )
        for shard in shards
    ]


def read_lag_ms(kinesis: "KinesisClient", stream: str, lease: Lease, now_ms: int) -> int | None:
    """
    The age in milliseconds of the oldest record that *lease* has not checkpointed; 0 for none.

    One read of one record, whoever owns the shard. None where it cannot be told: the
    shard has no position yet, or Kinesis refuses (its reads are limited, a position may
    be older than what it keeps). Raises Unavailable when it does not answer.
    """
    if lease.checkpoint.isdecimal():
        kind, number = "AFTER_SEQUENCE_NUMBER", {"StartingSequenceNumber": lease.checkpoint}
    elif lease.checkpoint == TRIM_HORIZON:
        kind, number = TRIM_HORIZON, {}
    else:
        return None
    try:
        iterator = kinesis.get_shard_iterator(
            StreamName=stream,
            ShardId=lease.shard_id,
            ShardIteratorType=kind,  # type: ignore[arg-type]
            **number,  # type: ignore[arg-type]
        )
        answer = kinesis.get_records(ShardIterator=iterator["ShardIterator"], Limit=1)
    except ClientError:
        return None
    except BotoCoreError as error:
        raise Unavailable("kinesis", str(error)) from error
    if not answer["Records"]:
        return answer.get("MillisBehindLatest", 0)
    arrival = answer["Records"][0]["ApproximateArrivalTimestamp"]
    return max(0, now_ms - round(arrival.timestamp() * 1000))
