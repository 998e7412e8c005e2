"""One embedded AWS for all e2e tests, and the daemon over a stream of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.local.part import Part
from consumer.local.ports import listen
from consumer.local.resources import session
from tests.e2e.kcl_daemon import KclDaemon


@pytest.fixture(scope="session")
def aws_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an embedded AWS."""
    folder = tmp_path_factory.mktemp("aws")
    part = Part("aws", ["consumer.local.aws"], listen(0, "aws"), directory=folder)
    try:
        part.await_ready("/")
        yield part.url
    finally:
        part.stop()


@pytest.fixture(scope="module")
def daemon(aws_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KclDaemon]:
    """A running daemon on a stream of two shards of its own."""
    folder: Path = tmp_path_factory.mktemp("daemon")
    aws = session(aws_url)
    kinesis = aws.client("kinesis")
    kinesis.create_stream(StreamName="spine", ShardCount=2)
    kinesis.close()
    daemon = KclDaemon(folder, aws_url, aws, "spine")
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.kill()
