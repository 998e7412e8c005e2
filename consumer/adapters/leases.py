"""The lease table of the KCL in DynamoDB: who works which shard, and how far it is saved."""

from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from consumer.errors import Unavailable
from consumer.fleet import Lease
from consumer.model import ShardId

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def read_leases(dynamodb: "DynamoDBClient", table: str) -> list[Lease] | None:
    """
    Every lease of *table* as it is now, by shard; None while there is no such table.

    The columns are those that KCL 3.1.3 writes (``DynamoDBLeaseSerializer``). Raises
    Unavailable.
    """
    try:
        pages = dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
        items: list[dict[str, Any]] = [item for page in pages for item in page["Items"]]
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        if code == "ResourceNotFoundException":
            return None
        raise Unavailable("dynamodb", f"scan of {table}: {code}") from error
    except BotoCoreError as error:
        raise Unavailable("dynamodb", f"scan of {table}: {error}") from error
    return sorted(map(_lease, items), key=lambda lease: lease.shard_id)


def _lease(item: dict[str, Any]) -> Lease:
    return Lease(
        shard_id=ShardId(item["leaseKey"]["S"]),
        owner=item.get("leaseOwner", {}).get("S"),
        counter=int(item.get("leaseCounter", {}).get("N", 0)),
        checkpoint=item.get("checkpoint", {}).get("S", ""),
        sub_checkpoint=int(item.get("checkpointSubSequenceNumber", {}).get("N", 0)),
    )
