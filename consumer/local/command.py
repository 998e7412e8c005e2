"""``fraudstream local``: the embedded stack in the foreground, until Ctrl-C."""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

from consumer import configuration
from consumer.local.resources import HISTORY_BUCKET, Resources, prepare, session
from consumer.local.stack import Ports, Stack
from consumer.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``fraudstream local`` to *parser*."""
    parser.add_argument("--shards", type=int, default=2, help="shards of the stream (default 2)")
    for part in ("aws", "redis", "endpoints"):
        parser.add_argument(
            f"--{part}-port", type=int, default=0, help="port on 127.0.0.1 (default: a free one)"
        )
    for kind in ("fraud", "anomaly"):
        parser.add_argument(
            f"--{kind}-model", type=Path, metavar="PATH", help=f"{kind} model.tar.gz to serve"
        )
    parser.add_argument(
        "--directory",
        type=Path,
        default=default_directory(),
        help="folder for the logs of the parts (default %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """
    Run the stack until Ctrl-C or SIGTERM: 0 then.

    The stream, the buckets and the endpoints get the names of the settings.
    Raises Misconfigured and Unavailable; no process is left behind either way.
    """
    settings = configuration.load(arguments.config).settings
    redis_url = os.environ.get("REDIS_URL")
    ports = Ports(arguments.aws_port, arguments.redis_port, arguments.endpoints_port)
    resources = _resources(settings, arguments.shards)
    models = _models(settings, arguments)
    stack = Stack(arguments.directory, ports=ports, redis_url=redis_url)
    with _interruptible():
        try:
            with stack:
                prepare(session(stack.aws_url), resources)
                if models:
                    stack.start_endpoints(models)
                _print_addresses(stack, external_redis=bool(redis_url), out=sys.stdout)
                stack.wait()
        except _Stopped:
            return 0
    return 0


def default_directory() -> Path:
    """Return where logs go unless told otherwise (XDG Base Directory, user state)."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "fraudstream" / "local"


class _Stopped(BaseException):
    """Ctrl-C or SIGTERM; no error, so that nothing in between handles it as one."""


@contextmanager
def _interruptible() -> Iterator[None]:
    """Raise _Stopped at the first signal and ignore further ones, so that the parts are ended."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise _Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _resources(names: Settings, shards: int) -> Resources:
    """Return the resources under the names of the settings."""
    return Resources(
        stream=names.kcl.stream_name,
        shards=shards,
        delivery_stream=names.firehose.stream_name,
        buckets=(names.dead_letters.bucket, HISTORY_BUCKET),
    )


def _models(names: Settings, arguments: argparse.Namespace) -> dict[str, Path | str]:
    """Return the archives that were given, under the endpoint names of the settings."""
    given: dict[str, Path | None] = {
        names.scoring.fraud.name: arguments.fraud_model,
        names.scoring.anomaly.name: arguments.anomaly_model,
    }
    return {name: path for name, path in given.items() if path is not None}


def _print_addresses(stack: Stack, *, external_redis: bool, out: TextIO) -> None:
    """Print one export line a variable, for another terminal to evaluate."""
    print(f"# The stack is ready; logs are in {stack.directory}. Ctrl-C ends it.", file=out)
    for line in export_lines(stack.environment(), external_redis=external_redis):
        print(line, file=out)
    out.flush()


def export_lines(environment: Mapping[str, str], *, external_redis: bool) -> list[str]:
    """
    Return *environment* as lines for a shell.

    The address of an external Redis may carry a password, so the line refers to
    the user's own variable instead of repeating it.
    """
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    if external_redis:
        own = 'export FRAUDSTREAM_REDIS__URL="$REDIS_URL"'
        lines = [own if "FRAUDSTREAM_REDIS__URL" in line else line for line in lines]
    return lines
