"""
An endpoint that explains: SageMaker Clarify's online explainability.

An endpoint whose configuration has ``ExplainerConfig`` answers InvokeEndpoint in a
schema of its own, which fits no other endpoint: JSON with ``version``,
``predictions`` and ``explanations.kernel_shap``, a list a row of one object a
feature in the order of the columns. ``EnableExplanations``, JMESPath, goes into a
header and wins over the configuration; CSV or JSON Lines are to be accepted
(https://docs.aws.amazon.com/sagemaker/latest/dg/clarify-online-explainability-invoke-endpoint.html).
An answer counts only as a whole: contributions of other columns would mislead.
"""

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal

import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from consumer.errors import Unavailable
from consumer.scoring import encode_rows

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient

Contributions = list[tuple[int, float]]
"""Pairs of column and contribution, largest first."""

_ROWS: Final = 20
_PAUSE_S: Final = 60.0
_DEADLINE_S: Final = 20.0
_TOP: Final = 5
_ANSWER_BYTES: Final = 4_096
_ANSWER_BYTES_A_FEATURE: Final = 512
_PIECE_BYTES: Final = 65_536


class _Attribution(msgspec.Struct):
    """One number an output of the model; a classifier of two classes has one."""

    attribution: tuple[float]


class _Feature(msgspec.Struct):
    """``feature_header`` is there where the endpoint's configuration names the columns."""

    attributions: tuple[_Attribution]
    feature_header: str | None = None


class _Explanations(msgspec.Struct):
    kernel_shap: list[list[_Feature]]


class _Answer(msgspec.Struct):
    version: Literal["1.0"]
    explanations: _Explanations


class ClarifyExplanations:
    """
    Contributions from the endpoint *name* for vectors of the features *names*.

    Each is in the unit of the prediction, a probability, since the baseline's. At
    most 20 rows a request: the explainer asks the model for many more of its own.
    """

    max_rows = _ROWS
    pause_s = _PAUSE_S
    unit = "probability"

    def __init__(self, client: "SageMakerRuntimeClient", name: str, names: Sequence[str]) -> None:
        self._client = client
        self._name = name
        self._names = tuple(names)

    def explain(self, rows: Sequence[Sequence[float]]) -> list[Contributions]:
        """
        Return the five largest contributions of each of *rows*.

        None of a row with a value that is no finite number. Raises Unavailable with the cause.
        """
        lines = encode_rows(rows)
        asked = [row for row, line in enumerate(lines) if b"null" not in line]
        found: list[Contributions] = [[] for _ in rows]
        if asked:
            answer = self._request([lines[row] for row in asked])
            for row, each in zip(asked, parse(answer, len(asked), self._names), strict=True):
                found[row] = each
        return found

    def close(self) -> None:
        """Close the connections; another request opens one."""
        self._client.close()

    def _request(self, lines: Sequence[bytes]) -> bytes:
        limit = _ANSWER_BYTES + len(lines) * len(self._names) * _ANSWER_BYTES_A_FEATURE
        try:
            response = self._client.invoke_endpoint(
                EndpointName=self._name,
                EnableExplanations="`true`",
                ContentType="text/csv",
                Accept="text/csv",
                Body=b"\n".join(lines),
            )
            return _read(response["Body"], limit)
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            raise _unavailable(f"{self._name} answered status {status}") from error
        except (BotoCoreError, HTTPError, OSError) as error:
            raise _unavailable(f"{self._name} did not answer: {type(error).__name__}") from error


def parse(answer: bytes, rows: int, names: Sequence[str]) -> list[Contributions]:
    """
    Return the largest contributions of each row of *answer*.

    There have to be *rows* rows, with one finite number for each of *names*, in
    their order. Raises Unavailable, saying what was expected.
    """
    try:
        found = msgspec.json.decode(answer, type=_Answer).explanations.kernel_shap
    except (msgspec.DecodeError, RecursionError) as error:
        # msgspec names the place and the types, never a value.
        raise _unavailable(f"no explanations of schema 1.0: {error}") from error
    if len(found) != rows:
        raise _unavailable(f"{len(found)} rows explained, not {rows}")
    return [_largest(row, names) for row in found]


def _largest(row: Sequence[_Feature], names: Sequence[str]) -> Contributions:
    if len(row) != len(names):
        raise _unavailable(f"{len(row)} features explained, not {len(names)}")
    for feature, name in zip(row, names, strict=True):
        if feature.feature_header not in {None, name}:
            raise _unavailable(f"{feature.feature_header!r} explained in place of {name!r}")
    values = [feature.attributions[0].attribution[0] for feature in row]
    if not all(map(math.isfinite, values)):
        raise _unavailable("a contribution is no finite number")
    return sorted(enumerate(values), key=lambda pair: -abs(pair[1]))[:_TOP]


def _read(body: "StreamingBody", limit: int) -> bytes:
    """
    Read *limit* bytes at most, as they arrive.

    A timeout counts from each byte, so a body that drips would hold the thread for ever.
    """
    pieces: list[bytes] = []
    size, deadline_s = 0, time.monotonic() + _DEADLINE_S
    with body:
        while piece := body._raw_stream.read1(_PIECE_BYTES):  # type: ignore[attr-defined]  # noqa: SLF001
            size += len(piece)
            if size > limit:
                raise _unavailable(f"an answer of more than {limit} bytes")
            if time.monotonic() >= deadline_s:
                raise _unavailable(f"an answer that took more than {_DEADLINE_S:g} s")
            pieces.append(piece)
    return b"".join(pieces)


def _unavailable(cause: str) -> Unavailable:
    return Unavailable("endpoint", cause)
