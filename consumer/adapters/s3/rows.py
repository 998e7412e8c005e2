"""
Rows that Firehose does not take, as S3 objects where its own output lies.

``<prefix>YYYY/MM/DD/HH/`` as Firehose's default, the hour (UTC) in which the first row
was decided. The name comes from the rows alone, so that a batch that is delivered
again overwrites its object; one that is cut in another way makes another, whose rows
readers remove by ``prediction_id`` as ever.
"""

import hashlib
from typing import TYPE_CHECKING, Any

import orjson

from consumer.adapters.s3.calls import translated

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_HASH_DIGITS = 16


class S3Rows:
    """A RowStore in one bucket."""

    def __init__(self, client: "S3Client", bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix

    def put(self, rows: bytes) -> None:
        """Store *rows* as one object. Raises Unavailable."""
        with translated("put_object", self._bucket, self._prefix):
            self._client.put_object(
                Bucket=self._bucket,
                Key=rows_key(self._prefix, rows),
                Body=rows,
                ContentType="application/x-ndjson",
            )


def rows_key(prefix: str, rows: bytes) -> str:
    """
    Name the object of *rows*: hour, shard, first and last position, hash.

    ``spill-<shard>-<position>-<position>-<hash>.ndjson``; rows that came from no shard
    have their source in its place.
    """
    lines = rows.splitlines()
    first, last = orjson.loads(lines[0]), orjson.loads(lines[-1])
    folder = first["decided_time"][:13].replace("-", "/").replace(" ", "/")
    digest = hashlib.sha256(rows).hexdigest()[:_HASH_DIGITS]
    parts = ("spill", first["shard_id"] or first["source"], _place(first), _place(last), digest)
    return f"{prefix}{folder}/{'-'.join(part for part in parts if part)}.ndjson"


def _place(row: dict[str, Any]) -> str:
    """The position with a sign between its numbers that every tool takes in a name."""
    return (row["position"] or "").replace(":", "_")
