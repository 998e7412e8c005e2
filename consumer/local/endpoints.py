"""
The model endpoints: SageMaker Runtime on a real HTTP server, in a process of its own.

Run as ``python -m consumer.local.endpoints --port 8080 --model NAME=PATH …``,
where PATH is a ``model.tar.gz`` or its ``s3://bucket/key``.
"""

import argparse
import os
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from botocore.exceptions import BotoCoreError, ClientError
from starlette.applications import Starlette

from consumer.errors import FraudstreamError, Misconfigured, Problem
from consumer.local import resources
from consumer.local.containers import Predictor
from consumer.local.ports import listen
from consumer.local.runtime import build_application

# A client that sends on a connection which the server just closed as idle sees an
# error, and the daemon does not repeat a request behind its own back.
_KEEP_ALIVE_S = 3_600
# The forest holds the GIL; a short interval lets the other endpoint's answer out between.
_SWITCH_INTERVAL_S = 0.0005


def load_models(sources: Mapping[str, str], aws_url: str | None) -> dict[str, Predictor]:
    """
    Load each archive, from a file or from ``s3://`` at *aws_url*.

    Raises Misconfigured where one is missing or is no model.
    """
    # Imported here: the models' libraries take a second that answering --help needs not.
    from consumer.training import artefacts  # noqa: PLC0415

    models: dict[str, Predictor] = {}
    with tempfile.TemporaryDirectory() as directory:
        for name, source in sources.items():
            path = Path(source)
            if source.startswith("s3://"):
                path = Path(directory) / f"{len(models)}.tar.gz"
                _download(source, path, aws_url)
            models[name] = artefacts.load(path)
    return models


def _download(source: str, path: Path, aws_url: str | None) -> None:
    location = urlsplit(source)
    s3 = resources.session(aws_url).client("s3")
    try:
        s3.download_file(location.netloc, location.path.lstrip("/"), str(path))
    except (BotoCoreError, ClientError) as error:
        expected = "a model.tar.gz that can be read"
        raise Misconfigured([Problem("--model", source, str(error), expected)]) from error
    finally:
        s3.close()


def _serve(application: Starlette, listener: socket.socket) -> None:
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    config = uvicorn.Config(
        application,
        http="httptools",
        loop="uvloop",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m consumer.local.endpoints",
        description="SageMaker Runtime on a local HTTP server.",
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", type=int, help="port of 127.0.0.1 to listen on")
    where.add_argument("--fd", type=int, help="inherited file descriptor of a listening socket")
    parser.add_argument(
        "--model",
        action="append",
        required=True,
        metavar="NAME=PATH",
        help="endpoint name and its model.tar.gz, a path or s3://bucket/key; repeatable",
    )
    parser.add_argument("--aws-url", help="where s3:// is; LOCALSTACK_HOST by default")
    parser.add_argument(
        "--csv-separator",
        choices=("newline", "comma"),
        default="newline",
        help="between the scores of a CSV answer of XGBoost; comma as old images do",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; exits with 2 where a model or the port is not to be had."""
    parser = _parser()
    options = parser.parse_args(arguments)
    sources = dict(given.partition("=")[::2] for given in options.model)
    if not all(name and source for name, source in sources.items()):
        parser.error("--model takes NAME=PATH")
    # One thread a model: a pool of OpenMP threads a request only adds contention.
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        models = load_models(sources, options.aws_url)
        listener = (
            socket.socket(fileno=options.fd)
            if options.fd is not None
            else listen(options.port, "endpoints")
        )
    except FraudstreamError as error:
        parser.exit(2, f"{error}\n")
    separator = "," if options.csv_separator == "comma" else "\n"
    _serve(build_application(models, separator), listener)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
