"""
The embedded stack as one object: start it, use its addresses, leave nothing behind.

Parts start in the order AWS, Redis, endpoints and stop in the reverse one, so
that what serves the others goes last. A part that ends by itself is an error
that names it and shows the end of its log; whatever ends the stack, also
``kill -9``, ends every part.
"""

import os
import platform
import selectors
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from consumer.errors import Misconfigured, Problem, Unavailable
from consumer.local.part import Part
from consumer.local.ports import HOST, listen
from consumer.local.redis_server import RedisServer
from consumer.local.resources import ACCESS_KEY, REGION

_REDIS = "redis"
_REDIS_TIMEOUT_S = 5.0
_Started = TypeVar("_Started", Part, RedisServer)
_MODULES = {"ReJSON": "JSON", "search": "Search"}


@dataclass(frozen=True, slots=True)
class Ports:
    """The port of each part on the loopback; 0 takes a free one."""

    aws: int = 0
    redis: int = 0
    endpoints: int = 0


class Stack:
    """
    AWS, Redis and model endpoints; a context manager, or ``start`` and ``stop``.

    *directory* receives the logs. *redis_url* names a server to use instead of
    the embedded one; it needs JSON and Search. Call ``start`` and
    ``start_endpoints`` from a thread that lives as long as the stack is used:
    the kernel ends the parts with it.
    """

    def __init__(
        self, directory: Path, *, ports: Ports | None = None, redis_url: str | None = None
    ) -> None:
        self.directory = directory
        self._ports = ports or Ports()
        self._external_redis_url = redis_url or None
        self._aws: Part | None = None
        self._redis: RedisServer | None = None
        self._endpoints: Part | None = None

    @property
    def aws_url(self) -> str:
        """Address of Kinesis, DynamoDB, Firehose, S3 and SageMaker, HTTP/1.1 and HTTP/2."""
        return _started(self._aws, "aws").url

    @property
    def redis_url(self) -> str:
        """Address of Redis, with the credentials of an external one."""
        return self._external_redis_url or _started(self._redis, "redis").url

    @property
    def endpoints_url(self) -> str:
        """Address of SageMaker Runtime, once ``start_endpoints`` returned."""
        return _started(self._endpoints, "endpoints").url

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the parts that were started, by name."""
        pids = {part.name: part.pid for part in (self._aws, self._endpoints) if part is not None}
        if self._redis is not None and self._redis.pid is not None:
            pids["redis"] = self._redis.pid
        return pids

    def start(self) -> Self:
        """
        Start AWS and Redis and wait until both answer.

        Raises Misconfigured (platform, a port that is taken, an external Redis
        without modules) and Unavailable (a part that did not come up).
        """
        check_platform(self._external_redis_url)
        try:
            # AWS takes a second to import its services; Redis comes up meanwhile.
            self._aws = Part(
                "aws",
                ["consumer.local.aws"],
                listen(self._ports.aws, "aws"),
                directory=self.directory,
            )
            if self._external_redis_url is None:
                self._redis = self._start_redis()
            else:
                _check_redis(self._external_redis_url)
            self._aws.await_ready("/")
        except BaseException:
            self.stop()
            raise
        return self

    def start_endpoints(self, models: Mapping[str, Path | str]) -> None:
        """
        Serve *models*, endpoint name → ``model.tar.gz`` (a path, or ``s3://`` of this AWS).

        A second call serves the new ones instead of the old, after a moment without any.

        Raises Unavailable with the reason where an archive cannot be loaded, and
        Misconfigured where the port is taken. On an error the rest keeps running.
        """
        if self._endpoints is not None:
            self._endpoints.stop()
            self._endpoints = None
        command = ["consumer.local.endpoints", "--aws-url", self.aws_url]
        for name, archive in models.items():
            command += ["--model", f"{name}={archive}"]
        part = Part(
            "endpoints",
            command,
            listen(self._ports.endpoints, "endpoints"),
            directory=self.directory,
        )
        try:
            part.await_ready("/ping")
        except BaseException:
            part.stop()
            raise
        self._endpoints = part

    def environment(self) -> dict[str, str]:
        """
        Return the variables that point this package, boto3 and the AWS CLI at the stack.

        The address of the endpoints is among them once they are started.
        """
        aws = self.aws_url
        variables = {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": ACCESS_KEY,
            "AWS_DEFAULT_REGION": REGION,
            # The Java SDK would send CBOR to Kinesis, which emulators read badly.
            "AWS_CBOR_DISABLE": "1",
            # Without it a machine off EC2 waits for the metadata service.
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": aws,
            "LOCALSTACK_HOST": aws.removeprefix("http://"),
            "NO_PROXY": _no_proxy(os.environ.get("NO_PROXY", "")),
            "FRAUDSTREAM_AWS__REGION": REGION,
            "FRAUDSTREAM_AWS__ENDPOINT_URL": aws,
            "FRAUDSTREAM_REDIS__URL": self.redis_url,
        }
        if self._endpoints is not None:
            variables["FRAUDSTREAM_AWS__SAGEMAKER_RUNTIME_URL"] = self._endpoints.url
        return variables

    def check(self) -> None:
        """Raise Unavailable when a part has ended, with its name and the end of its log."""
        for part in (self._endpoints, self._aws):
            if part is not None and not part.running:
                raise part.failure()
        if self._redis is not None and not self._redis_running():
            log = self.directory / "redis.log"
            raise Unavailable(_REDIS, f"the embedded server ended; its log is {log}")

    def wait(self) -> None:
        """Block until a part ends, then raise as ``check`` does."""
        with _exits(self.pids.values()) as exits:
            while True:
                self.check()
                exits.select()

    def stop(self) -> None:
        """End every part, the last started first; doing it twice is harmless."""
        endpoints, self._endpoints = self._endpoints, None
        aws, self._aws = self._aws, None
        server, self._redis = self._redis, None
        # Each is ended even if ending another fails; callbacks run last in, first out.
        with ExitStack() as parts:
            for part in (server, aws, endpoints):
                if part is not None:
                    parts.callback(part.stop)

    def __enter__(self) -> Self:
        """Start AWS and Redis."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End every part."""
        self.stop()

    def _start_redis(self) -> RedisServer:
        port = self._ports.redis
        if port:
            # The server binds by itself; ask first, for the same clear message.
            listen(port, "redis").close()
        return RedisServer(port=port, directory=self.directory).start()

    def _redis_running(self) -> bool:
        pid = None if self._redis is None else self._redis.pid
        if pid is None:
            return False
        # WNOWAIT leaves the exit code to the owner of the process.
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def check_platform(
    redis_url: str | None, system: str | None = None, machine: str | None = None
) -> None:
    """
    Raise Misconfigured where there is no embedded Redis and no other one is named.

    *system* and *machine* are this computer's by default.
    """
    found = (system or platform.system(), machine or platform.machine())
    if redis_url is None and found != ("Linux", "x86_64"):
        expected = (
            "Linux x86_64, or REDIS_URL=redis://host:6379/0 naming a Redis with JSON and Search"
        )
        raise Misconfigured([Problem("embedded Redis", "platform", " ".join(found), expected)])


def _check_redis(url: str) -> None:
    """Raise Unavailable where *url* does not answer, Misconfigured where it lacks modules."""
    try:
        with redis.Redis.from_url(
            url,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=_REDIS_TIMEOUT_S,
            socket_connect_timeout=_REDIS_TIMEOUT_S,
            decode_responses=True,
        ) as client:
            names = {module["name"] for module in client.module_list()}
    except (redis.RedisError, ValueError) as error:
        # The address may carry a password, so the message does not repeat it.
        raise Unavailable(_REDIS, f"the server named by REDIS_URL: {error}") from error
    missing = [title for module, title in _MODULES.items() if module not in names]
    if missing:
        found = f"a server without {' and '.join(missing)}"
        expected = "Redis 8, Redis Stack or another server with JSON and Search"
        raise Misconfigured([Problem("environment", "REDIS_URL", found, expected)])


@contextmanager
def _exits(pids: Iterable[int]) -> Iterator[selectors.BaseSelector]:
    """Yield a selector that wakes when one of *pids* ends."""
    with selectors.DefaultSelector() as selector, ExitStack() as descriptors:
        for pid in pids:
            descriptor = os.pidfd_open(pid)
            descriptors.callback(os.close, descriptor)
            selector.register(descriptor, selectors.EVENT_READ)
        yield selector


def _no_proxy(existing: str) -> str:
    return ",".join(dict.fromkeys(filter(None, [*existing.split(","), HOST, "localhost"])))


def _started(part: _Started | None, name: str) -> _Started:
    if part is None:
        message = f"{name} was not started"
        raise RuntimeError(message)
    return part
