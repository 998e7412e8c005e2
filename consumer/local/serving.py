"""
A container of our own for SageMaker: serves one archive of this package on port 8080.

SageMaker starts an image with the word ``serve``, unpacks the model's archive into
``/opt/ml/model`` and asks ``GET /ping`` and ``POST /invocations`` ("Custom Inference Code with
Hosting Services", SageMaker developer guide). What is answered is what the built-in
containers answer. A forest holds the GIL, so there is a process for each core, each with
the model in its memory.

Run as ``python -m consumer.local.serving serve``; needs the extra ``serving``.
"""

import argparse
import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from consumer.errors import FraudstreamError
from consumer.local.containers import Container, ContainerError, container_of

_MODEL: Final = "FRAUDSTREAM_SERVING_MODEL"
_FOLDER: Final = "/opt/ml/model"


def application() -> Starlette:
    """Build the application of one process, with the model that the environment names."""
    # Imported here: --help needs no model library.
    from consumer.training import artefacts  # noqa: PLC0415

    return build_application(container_of(artefacts.load(Path(os.environ[_MODEL]))))


def build_application(container: Container) -> Starlette:
    """Return the application that answers for *container*."""
    # A model is asked by one thread: neither library promises more.
    thread = ThreadPoolExecutor(1, "model")

    async def invocations(request: Request) -> Response:
        body, headers = await request.body(), request.headers
        types = headers.get("content-type", ""), headers.get("accept", "")
        loop = asyncio.get_running_loop()
        try:
            answer = await loop.run_in_executor(thread, container.invoke, body, *types)
        except ContainerError as error:
            return Response(error.message, error.status, media_type="text/plain")
        status = HTTPStatus.OK if body else HTTPStatus.NO_CONTENT
        return Response(answer.body, status, {"content-type": answer.content_type})

    async def ping(_: Request) -> Response:
        return Response()

    return Starlette(
        routes=[Route("/invocations", invocations, methods=["POST"]), Route("/ping", ping)]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; exits with 2 where the archive cannot be served."""
    parser = argparse.ArgumentParser(prog="python -m consumer.local.serving", description=__doc__)
    parser.add_argument("command", choices=("serve",), help="what SageMaker says")
    parser.add_argument("--model", type=Path, default=Path(_FOLDER), help="folder or model.tar.gz")
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104 - of a container
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args(arguments)
    os.environ[_MODEL] = str(options.model)
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        # Loaded once before any process is: what is wrong is told once.
        application()
    except FraudstreamError as error:
        parser.exit(2, f"{error}\n")
    uvicorn.run(
        "consumer.local.serving:application",
        factory=True,
        host=options.host,
        port=options.port,
        workers=options.processes,
        log_level="warning",
        access_log=False,
        server_header=False,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
