"""
Model endpoints behind SageMaker Runtime.

CSV goes in, because the built-in XGBoost refuses JSON. JSON is asked for, since
images from 1.2-2 on answer it, and CSV is understood, since older images and
multi-model endpoints answer that, separated by commas or newlines (the
containers' source). An answer counts only when it holds one finite score a row
within the model's range: a container may otherwise pass a shifted row unnoticed.
"""

import json
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal

import msgspec
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ReadTimeoutError,
)
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as Urllib3TimeoutError

from consumer.clock import Clock
from consumer.errors import Unavailable
from consumer.logs import get_logger
from consumer.settings import EndpointSettings

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient

_HIGHEST: Final = {"fraud": 1.0, "anomaly": math.inf}
# A score takes some 30 bytes in JSON. What is far longer is no answer to our rows, and
# reading it to the end would only occupy the thread.
_ANSWER_BYTES_A_ROW: Final = 256
_ANSWER_BYTES: Final = 4_096
_PIECE_BYTES: Final = 65_536
# Answers that come at once and may be better a moment later. A model that is loading or
# throttled (429, 530) and one that fails on these rows (424) will not be within the deadline.
_LOST: Final = "connection"


class _Score(msgspec.Struct):
    score: float


class _Answer(msgspec.Struct):
    """XGBoost fills ``predictions``, Random Cut Forest ``scores``."""

    predictions: list[_Score] = []
    scores: list[_Score] = []


_DECIMALS = 12


class SageMakerEndpoint:
    """
    One endpoint, called through *client*, which retries nothing itself.

    The client's timeouts should not exceed the deadline by much: they bound how
    long a thread waits for an answer that nobody waits for any more.
    """

    def __init__(
        self,
        client: "SageMakerRuntimeClient",
        settings: EndpointSettings,
        name: Literal["fraud", "anomaly"],
        clock: Clock,
    ) -> None:
        self._client = client
        self._settings = settings
        self._name = name
        self._clock = clock

    @property
    def name(self) -> str:
        """The score's name: ``fraud`` or ``anomaly``."""
        return self._name

    @property
    def max_rows(self) -> int:
        """Rows that one request may carry."""
        return self._settings.max_rows

    @property
    def max_bytes(self) -> int:
        """Bytes that the lines of one request, with a newline each, may take."""
        return self._settings.max_bytes

    def invoke(self, lines: Sequence[bytes], deadline_s: float, inference_id: str) -> list[float]:
        """
        Score *lines* in one request, until *deadline_s* on the monotonic clock.

        A lost connection is tried once more, and said so in the log, while at
        least half of the time is left: an idle connection that the service closed
        at that very moment should cost no score. An answer is never asked for
        again, whatever it says. Raises Unavailable with the cause.
        """
        started_s = self._clock.monotonic_s()
        try:
            return self._request(lines, deadline_s, inference_id)
        except Unavailable as error:
            left_s = deadline_s - self._clock.monotonic_s()
            if error.message != _LOST or left_s * 2 < deadline_s - started_s:
                raise
            get_logger(__name__).warning("connection lost, asking again", endpoint=self._name)
        return self._request(lines, deadline_s, inference_id)

    def _request(self, lines: Sequence[bytes], deadline_s: float, inference_id: str) -> list[float]:
        # A request that waited in a queue past its deadline is of no use to anybody.
        self._check_time(deadline_s)
        limit = _ANSWER_BYTES + len(lines) * _ANSWER_BYTES_A_ROW
        try:
            response = self._client.invoke_endpoint(
                EndpointName=self._settings.name,
                ContentType="text/csv",
                Accept="application/json",
                InferenceId=inference_id,
                Body=b"\n".join(lines),
            )
            answer = self._read(response["Body"], limit, deadline_s)
            length = response["ResponseMetadata"]["HTTPHeaders"].get("content-length")
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            raise _unavailable(f"status_{status}") from error
        except (ReadTimeoutError, ConnectTimeoutError, Urllib3TimeoutError) as error:
            raise _unavailable("timeout") from error
        except (EndpointConnectionError, HTTPClientError, HTTPError, OSError) as error:
            raise _unavailable("connection") from error
        except NoCredentialsError as error:
            raise _unavailable("no_credentials") from error
        except BotoCoreError as error:
            raise _unavailable("not_sent") from error
        if length is not None and int(length) != len(answer):
            # A connection that ended early: the last number of a CSV answer may be a shorter one.
            raise _unavailable("connection")
        return _parse(answer, len(lines), _HIGHEST[self._name])

    def _read(self, body: "StreamingBody", limit: int, deadline_s: float) -> bytes:
        """
        Read the answer piece by piece as it arrives.

        ``StreamingBody.read`` waits for as many bytes as it was asked for, and a
        timeout counts from each byte, so a body that drips would hold the thread
        for ever. ``read1`` of the stream below returns what is there.
        """
        pieces: list[bytes] = []
        size = 0
        with body:
            while piece := body._raw_stream.read1(_PIECE_BYTES):  # type: ignore[attr-defined]  # noqa: SLF001
                size += len(piece)
                if size > limit:
                    raise _unavailable("unreadable")
                self._check_time(deadline_s)
                pieces.append(piece)
        return b"".join(pieces)

    def _check_time(self, deadline_s: float) -> None:
        if self._clock.monotonic_s() >= deadline_s:
            raise _unavailable("timeout")


def _unavailable(cause: str) -> Unavailable:
    return Unavailable("endpoint", cause)


def _parse(answer: bytes, rows: int, highest: float) -> list[float]:
    """Return the scores of *answer*: *rows* finite numbers in [0, *highest*]."""
    scores = _parse_json(answer) if answer.lstrip()[:1] == b"{" else _parse_csv(answer)
    if len(scores) != rows:
        raise _unavailable("wrong_row_count")
    if not all(map(math.isfinite, scores)):
        raise _unavailable("not_a_number")
    if scores and not (min(scores) >= 0.0 and max(scores) <= highest):
        raise _unavailable("out_of_range")
    # RedisJSON reads numbers of more than 15 digits inexactly; the score in the document
    # is to be the one that was decided on.
    return [round(score, _DECIMALS) for score in scores]


def _parse_json(answer: bytes) -> list[float]:
    try:
        decoded = msgspec.json.decode(answer, type=_Answer)
    except (msgspec.DecodeError, RecursionError) as error:
        if _holds_no_number(answer):
            raise _unavailable("not_a_number") from error
        raise _unavailable("unreadable") from error
    return [entry.score for entry in decoded.predictions or decoded.scores]


def _holds_no_number(answer: bytes) -> bool:
    """Whether *answer* is only unreadable for the NaN or Infinity that Python containers write."""
    constants: list[str] = []
    try:
        json.loads(answer, parse_constant=constants.append)
    except (ValueError, RecursionError):
        return False
    return bool(constants)


def _parse_csv(answer: bytes) -> list[float]:
    if b"_" in answer:
        # Python reads 1_0 as 10, which no container writes.
        raise _unavailable("unreadable")
    fields: Iterable[bytes] = answer.strip().replace(b"\n", b",").split(b",")
    try:
        return [float(field) for field in fields]
    except ValueError as error:
        raise _unavailable("unreadable") from error
