"""Reads what a run left behind: documents in Redis, rows and letters in S3."""

import gzip
from collections.abc import Iterator
from typing import TYPE_CHECKING

import orjson
import redis

from consumer.adapters.redis.documents import PREFIX

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PAGE = 1_000


def read_documents(client: redis.Redis) -> dict[str, dict[str, object]]:
    """Every decision document by transaction id, found by scanning the keys."""
    documents = {}
    keys = sorted(client.scan_iter(match=f"{PREFIX}*", count=_PAGE))
    for start in range(0, len(keys), _PAGE):
        pipeline = client.pipeline(transaction=False)
        for key in keys[start : start + _PAGE]:
            pipeline.execute_command("JSON.GET", key)
        for body in pipeline.execute():
            document: dict[str, object] = orjson.loads(body)
            documents[str(document["transaction_id"])] = document
    return documents


def read_lines(client: "S3Client", bucket: str, prefix: str = "") -> Iterator[dict[str, object]]:
    """Every line of every newline-delimited JSON object under *prefix*, gzip or plain."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        for entry in page.get("Contents", []):
            body = client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
            text = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
            for line in text.splitlines():
                yield orjson.loads(line)
