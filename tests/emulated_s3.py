"""An emulated S3 on a real socket, with a client of ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

import pytest
from moto.server import ThreadedMotoServer

from consumer.adapters.aws import client
from consumer.settings import Aws

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@contextmanager
def emulated_s3() -> Iterator["S3Client"]:
    """A client of an empty S3 that ends with the block."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # What it holds belongs to the process, not to the server.
    reset = Request(f"http://{host}:{port}/moto-api/reset", method="POST")
    urlopen(reset, timeout=10).close()  # noqa: S310 - loopback
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        environment.setenv("NO_PROXY", host)
        made = client(
            "s3",
            Aws(endpoint_url=f"http://{host}:{port}"),
            connect_timeout_s=5,
            read_timeout_s=10,
            max_pool_connections=8,
        )
        yield made
        made.close()
    server.stop()
