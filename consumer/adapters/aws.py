"""
Makes the botocore clients that the AWS adapters work with.

One place decides about timeouts and retries. botocore would wait 60 seconds to
connect and to read and try three times behind its caller's back; here the
caller names both timeouts, and a call is one attempt, because the adapters own
their deadlines and exactly one layer may retry.
"""

import gzip
import time
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, overload

import orjson
from botocore.config import Config
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError
from botocore.loaders import JSONFileLoader, Loader, create_loader
from botocore.session import Session
from urllib3.exceptions import HTTPError as Urllib3HttpError
from urllib3.exceptions import ReadTimeoutError as Urllib3TimeoutError

from consumer import settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_firehose import FirehoseClient
    from mypy_boto3_kinesis import KinesisClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient

_PIECE_BYTES: Final = 65_536

Service = Literal["dynamodb", "firehose", "kinesis", "s3", "sagemaker", "sagemaker-runtime"]
Untyped = Literal["application-autoscaling", "logs", "secretsmanager"]
"""Services whose clients are called without types; what they answer is checked where it enters."""


@overload
def client(
    service: Untyped,
    aws: settings.Aws,
    *,
    connect_timeout_s: float,
    read_timeout_s: float,
    max_pool_connections: int,
) -> Any: ...
@overload
def client(
    service: Literal["dynamodb"],
    aws: settings.Aws,
    *,
    connect_timeout_s: float,
    read_timeout_s: float,
    max_pool_connections: int,
) -> "DynamoDBClient": ...
@overload
def client(
    service: Literal["firehose"],
    aws: settings.Aws,
    *,
    connect_timeout_s: float,
    read_timeout_s: float,
    max_pool_connections: int,
) -> "FirehoseClient": ...
@overload
def client(
    service: Literal["kinesis"],
    aws: settings.Aws,
    *,
    connect_timeout_s: float,
    read_timeout_s: float,
    max_pool_connections: int,
) -> "KinesisClient": ...
@overload
def client(
    service: Literal["s3"],
    aws: settings.Aws,
    *,
    connect_timeout_s: float,
    read_timeout_s: float,
    max_pool_connections: int,
) -> "S3Client": ...
@overload
def client(
    service: Literal["sagemaker"],
    aws: settings.Aws,
    *,
    connect_timeout_s: float,
    read_timeout_s: float,
    max_pool_connections: int,
) -> "SageMakerClient": ...
@overload
def client(
    service: Literal["sagemaker-runtime"],
    aws: settings.Aws,
    *,
    connect_timeout_s: float,
    read_timeout_s: float,
    max_pool_connections: int,
) -> "SageMakerRuntimeClient": ...
def client(
    service: Service | Untyped,
    aws: settings.Aws,
    *,
    connect_timeout_s: float,
    read_timeout_s: float,
    max_pool_connections: int,
) -> Any:
    """
    Build a client of *service* that makes one attempt a call.

    *read_timeout_s* is the longest wait for the first byte of an answer, for each
    piece of it, and for all of it; but for content that the caller reads himself.
    ``max_pool_connections`` has to cover the threads that share the client:
    botocore drops surplus connections, and each call would then pay for a new
    one. Credentials come from the usual chain (environment, role, profile).
    """
    config = Config(
        connect_timeout=connect_timeout_s,
        read_timeout=read_timeout_s,
        max_pool_connections=max_pool_connections,
        tcp_keepalive=True,
        # In botocore max_attempts counts retries here, so 0 is one attempt in all.
        retries={"max_attempts": 0, "mode": "standard"},
        # An emulator has one address, so a bucket cannot be part of the host name.
        s3={"addressing_style": "path" if aws.endpoint_url else "auto"},
    )
    # A session of its own, since a shared one is not thread-safe; what it reads is the same.
    session = Session()
    session.register_component(
        "data_loader", _descriptions(session.get_config_variable("data_path"))
    )
    made: Any = session.create_client(
        service,
        region_name=aws.region,
        endpoint_url=_endpoint_url(service, aws),
        config=config,
    )
    # No public way leads there. The wrapper stands in front of every call of this client.
    made._endpoint.http_session = _WholeAnswers(made._endpoint.http_session, read_timeout_s)  # noqa: SLF001
    return made


class _WholeAnswers:
    """
    An HTTP session of botocore whose answers have to be there, whole, in *limit_s*.

    botocore's timeout counts from each byte, so that an answer that drips would hold
    its thread, and with it a shard's checkpoint, for ever.
    """

    def __init__(self, session: Any, limit_s: float) -> None:
        self._session = session
        self._limit_s = limit_s

    def send(self, request: Any) -> Any:
        """Send *request*. Raises the errors of botocore."""
        read_by_caller = request.stream_output
        # The session then leaves the content where it is.
        request.stream_output = True
        response = self._session.send(request)
        # The content of an error is read by botocore, whatever the operation.
        if not read_by_caller or response.status_code >= HTTPStatus.MULTIPLE_CHOICES:
            response._content = self._read(response)  # noqa: SLF001 - as its session does
        return response

    def close(self) -> None:
        """Close every connection."""
        self._session.close()

    def _read(self, response: Any) -> bytes:
        ends_s = time.monotonic() + self._limit_s
        pieces: list[bytes] = []
        try:
            # It returns what there is, where ``read`` waits for as much as was asked for.
            while piece := response.raw.read1(_PIECE_BYTES):
                pieces.append(piece)
                if time.monotonic() >= ends_s:
                    response.raw.close()
                    raise ReadTimeoutError(endpoint_url=response.url, error="not whole in time")
        except Urllib3TimeoutError as error:
            raise ReadTimeoutError(endpoint_url=response.url, error=error) from error
        except Urllib3HttpError as error:
            raise ConnectionClosedError(endpoint_url=response.url, error=error) from error
        return b"".join(pieces)


@cache
def _descriptions(data_path: str | None) -> Loader:
    """
    The descriptions of services, read once a process.

    Read again for each client they took 8 to 20 MB and 40 to 150 ms a client, of which
    a worker has half a dozen. They are files, so that nothing of them goes out of date.
    """
    loader = create_loader(data_path)
    loader.file_loader = _Descriptions()
    return loader


class _Descriptions(JSONFileLoader):
    """Reads them into plain dicts, which are half the size of botocore's ordered ones."""

    def load_file(self, file_path: str) -> Any:
        """What ``file_path`` and ``.json`` or ``.json.gz`` holds; None where neither is there."""
        plain, packed = Path(f"{file_path}.json"), Path(f"{file_path}.json.gz")
        if plain.is_file():
            return orjson.loads(plain.read_bytes())
        if packed.is_file():
            return orjson.loads(gzip.decompress(packed.read_bytes()))
        return None


def _endpoint_url(service: Service | Untyped, aws: settings.Aws) -> str | None:
    """Return the address *service* is called at; None lets botocore derive it from the region."""
    if service == "sagemaker-runtime" and aws.sagemaker_runtime_url:
        return aws.sagemaker_runtime_url
    return aws.endpoint_url
