"""
AWS in one process: Kinesis, DynamoDB, Firehose, S3 and the SageMaker control plane.

The services are moto's, the server is hypercorn, because the Kinesis Client
Library speaks HTTP/2 only, with prior knowledge on ``http://``, while boto3 and
the readiness check speak HTTP/1.1; hypercorn takes both on one port. Firehose
writes what each PutRecordBatch carries as one S3 object at once, under
``<prefix>YYYY/MM/DD/HH/``. Everything is in memory and gone with the process.

Run as ``python -m consumer.local.aws --port 4566``.
"""

import argparse
import asyncio
import logging
from collections.abc import Sequence

from hypercorn.asyncio import serve
from hypercorn.config import Config
from moto.core.responses import ActionResult
from moto.kinesis import models as kinesis
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.sagemaker import responses as sagemaker

from consumer.local.gateway import Gateway
from consumer.local.ports import HOST

# A client that sends on a connection which the server just closed as idle sees an
# error, and the daemon's clients do not retry behind its back.
KEEP_ALIVE_S = 3_600.0
_UNLIMITED = 2**31


def make_shards_scale() -> None:
    """
    Let puts and reads of moto's shards cost the same however long they have grown.

    moto copies all sequence numbers on every put and scans from the first record
    on every read: after 40,000 records a put takes three times as long as at the
    start, and after an hour at 1,000 records/s the stream would stand still.
    Sequence numbers are consecutive, so a read is a range. The methods are
    replaced because moto's metaclass takes no subclass from outside its packages.
    """

    def newest(shard: kinesis.Shard) -> int:
        return next(reversed(shard.records), 0)

    def oldest(shard: kinesis.Shard) -> int:
        return next(iter(shard.records), 0)

    def read(
        shard: kinesis.Shard, last_sequence_id: str, limit: int | None
    ) -> tuple[list[kinesis.Record], int, int]:
        last, end = int(last_sequence_id), newest(shard)
        start = max(last + 1, oldest(shard))
        stop = end + 1 if limit is None else min(start + limit, end + 1)
        found = [shard.records[number] for number in range(start, stop)]
        if not found:
            return [], last, 0
        behind_s = shard.records[end].created_at - found[-1].created_at
        return found, found[-1].sequence_number, int(behind_s * 1_000)

    methods = {
        "get_max_sequence_number": newest,
        "get_min_sequence_number": oldest,
        "get_records": read,
    }
    for name, method in methods.items():
        setattr(kinesis.Shard, name, method)


def make_endpoints_update() -> None:
    """
    Teach moto UpdateEndpoint, which it has not: the endpoint runs the other configuration.

    It is in service at once, as everything there is. The method is set from outside for
    the same reason as those of shards.
    """

    def update(response: sagemaker.SageMakerResponse) -> ActionResult:
        backend = response.sagemaker_backend
        name = response._get_param("EndpointName")  # noqa: SLF001 - moto's only way to them
        wanted = response._get_param("EndpointConfigName")  # noqa: SLF001
        present = backend.describe_endpoint(name)
        backend.describe_endpoint_config(wanted)
        kept = backend.endpoints[name]
        updated = backend.create_endpoint(name, wanted, kept.tags)
        updated.creation_time = kept.creation_time
        return ActionResult({"EndpointArn": present["EndpointArn"]})

    setattr(sagemaker.SageMakerResponse, "update_endpoint", update)  # noqa: B010 - not typed there


async def _serve(bind: str) -> None:
    config = Config()
    config.bind = [bind]
    config.loglevel = "WARNING"
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.keep_alive_max_requests = _UNLIMITED
    config.graceful_timeout = 1.0
    # One request at a time: moto's backends are not safe for concurrency ("Note: this
    # function is not safe for concurrency" stands in its put of a record). Two puts at
    # once could share a sequence number, and a conditional write of a lease could
    # succeed twice. The GIL leaves little to gain anyway.
    application = Gateway(DomainDispatcherApplication(create_backend_app))
    await serve(application, config, mode="asgi")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; 0 then."""
    parser = argparse.ArgumentParser(prog="python -m consumer.local.aws", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", type=int, help="port of 127.0.0.1 to listen on")
    where.add_argument("--fd", type=int, help="inherited file descriptor of a listening socket")
    options = parser.parse_args(arguments)
    # Each request would be a line; what remains are warnings and tracebacks.
    for name in ("werkzeug", "botocore", "moto"):
        logging.getLogger(name).setLevel(logging.WARNING)
    make_shards_scale()
    make_endpoints_update()
    bind = f"fd://{options.fd}" if options.fd is not None else f"{HOST}:{options.port}"
    asyncio.run(_serve(bind))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
