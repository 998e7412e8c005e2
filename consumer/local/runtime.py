"""
SageMaker Runtime as an ASGI application over loaded models.

``POST /endpoints/<name>/invocations`` answers as InvokeEndpoint does: what the
model's container answers, its refusals wrapped as ModelError (424), the errors
of the service itself with ``x-amzn-ErrorType``, so that boto3 raises what it
would raise on AWS. ``GET /ping`` is the health check, ``GET /stats`` counts the
requests and rows of each endpoint.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from consumer.local.containers import (
    Answer,
    Container,
    ContainerError,
    Predictor,
    container_of,
)
from consumer.local.resources import ACCOUNT, REGION

# "InvokeEndpoint": the maximum payload is 6 MB (SageMaker endpoints and quotas).
MAX_BODY_BYTES = 6 * 1024 * 1024
_MAX_INFERENCE_ID = 64
_REMEMBERED_IDS = 1_000
_INFERENCE_ID = "x-amzn-sagemaker-inference-id"
_VARIANT = {"x-Amzn-Invoked-Production-Variant": "AllTraffic"}


@dataclass(slots=True)
class Endpoint:
    """A container, and what was asked of it: POSTs, rows scored, refusals, newest ids."""

    name: str
    kind: str
    container: Container
    requests: int = 0
    rows: int = 0
    errors: int = 0
    inference_ids: deque[str] = field(default_factory=lambda: deque(maxlen=_REMEMBERED_IDS))
    # A model is asked by one thread: neither library promises more, and one core has no more.
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    async def invoke(self, body: bytes, content_type: str, accept: str) -> Answer:
        """Count the request and have it answered off the event loop. Raises ContainerError."""
        self.requests += 1
        loop = asyncio.get_running_loop()
        try:
            answer = await loop.run_in_executor(
                self.thread, self.container.invoke, body, content_type, accept
            )
        except ContainerError:
            self.errors += 1
            raise
        self.rows += answer.rows
        return answer

    def stats(self) -> dict[str, object]:
        """Return the counts as ``/stats`` shows them."""
        return {
            "kind": self.kind,
            "requests": self.requests,
            "rows": self.rows,
            "errors": self.errors,
            "inference_ids": list(self.inference_ids),
        }


def build_application(models: Mapping[str, Predictor], csv_separator: str = "\n") -> Starlette:
    """Return the ASGI application that serves *models* by endpoint name."""
    endpoints = {
        name: Endpoint(name, model.kind, container_of(model, csv_separator))
        for name, model in models.items()
    }

    async def invocations(request: Request) -> Response:
        return await _invoke(endpoints, request)

    async def ping(_: Request) -> Response:
        return Response()

    async def stats(_: Request) -> Response:
        counts = {name: endpoint.stats() for name, endpoint in endpoints.items()}
        return Response(orjson.dumps({"endpoints": counts}), media_type="application/json")

    return Starlette(
        routes=[
            Route("/endpoints/{name}/invocations", invocations, methods=["POST"]),
            Route("/ping", ping),
            Route("/stats", stats),
        ]
    )


async def _invoke(endpoints: Mapping[str, Endpoint], request: Request) -> Response:
    """Answer one InvokeEndpoint. The InferenceId is for data capture and is not sent back."""
    body = await _read_body(request)
    if body is None:
        return _error(413, None, f"HTTP content length exceeded {MAX_BODY_BYTES} bytes.")
    name = request.path_params["name"]
    endpoint = endpoints.get(name)
    if endpoint is None:
        message = f"Endpoint {name} of account {ACCOUNT} not found."
        return _error(400, "ValidationError", message)
    inference_id = request.headers.get(_INFERENCE_ID)
    if inference_id is not None:
        if len(inference_id) > _MAX_INFERENCE_ID:
            message = (
                f"1 validation error detected: Value '{inference_id}' at 'inferenceId' failed to "
                f"satisfy constraint: Member must have length less than or equal to 64"
            )
            return _error(400, "ValidationError", message)
        endpoint.inference_ids.append(inference_id)
    headers = request.headers
    try:
        answer = await endpoint.invoke(
            body, headers.get("content-type", ""), headers.get("accept", "")
        )
    except ContainerError as error:
        return _model_error(name, error)
    return Response(answer.body, headers={**_VARIANT, "content-type": answer.content_type})


async def _read_body(request: Request) -> bytes | None:
    """Return the body; None, without keeping it, when it is larger than SageMaker takes."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= MAX_BODY_BYTES:
            chunks.append(chunk)
    return b"".join(chunks) if size <= MAX_BODY_BYTES else None


def _model_error(name: str, error: ContainerError) -> Response:
    """Wrap a container's refusal as the runtime does."""
    party = "client" if error.status < HTTPStatus.INTERNAL_SERVER_ERROR else "server"
    group = f"/aws/sagemaker/Endpoints/{name}"
    console = f"https://{REGION}.console.aws.amazon.com/cloudwatch/home?region={REGION}"
    message = (
        f'Received {party} error ({error.status}) from primary with message "{error.message}". '
        f"See {console}#logEventViewer:group={group} "
        f"in account {ACCOUNT} for more information."
    )
    return _error(
        424,
        "ModelError",
        message,
        ErrorCode=f"{party.upper()}_ERROR_FROM_MODEL",
        OriginalStatusCode=error.status,
        OriginalMessage=error.message,
        LogStreamArn=f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}",
    )


def _error(status: int, kind: str | None, message: str, **details: object) -> Response:
    headers = {} if kind is None else {"x-amzn-ErrorType": kind}
    return Response(
        orjson.dumps({"Message": message, **details}),
        status,
        headers,
        media_type="application/json",
    )
