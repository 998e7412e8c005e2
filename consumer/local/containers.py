"""
What SageMaker's built-in algorithm containers answer to ``POST /invocations``.

Status codes, messages and formats of XGBoost are those of its published serving
code (aws/sagemaker-xgboost-container, ``algorithm_mode/serve.py`` and
``serve_utils.py``). Random Cut Forest is closed; its answers are those of the
SageMaker developer guide ("RCF Response Formats"), its refusals the ones that
its users report. Both take CSV here, which is what this package sends.

One difference is deliberate: a row of another width than the model's is always
refused, where XGBoost's container lets one surplus column pass.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import orjson

Rows = npt.NDArray[np.floating]
Values = npt.NDArray[np.float64]

CSV = "text/csv"
JSON = "application/json"


class Predictor(Protocol):
    """A loaded model: rows of shape (n, d) in the order of its features, scores of shape (n,)."""

    @property
    def kind(self) -> Literal["fraud", "anomaly"]:
        """``fraud`` for XGBoost, ``anomaly`` for a random cut forest."""
        ...

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The d features of a row."""
        ...

    def predict(self, rows: Rows) -> Values:
        """Score *rows*; may raise ValueError."""
        ...


class ContainerError(Exception):
    """A refusal: the container's own status and the body that goes with it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Answer:
    """A container's body, its media type and how many rows it scored."""

    body: bytes
    content_type: str
    rows: int


class Container(Protocol):
    """One model behind ``POST /invocations``."""

    def invoke(self, body: bytes, content_type: str, accept: str) -> Answer:
        """Score every row of *body*. Raises ContainerError."""
        ...


def container_of(model: Predictor, csv_separator: str = "\n") -> Container:
    """Return the container that serves a model of this kind on SageMaker."""
    if model.kind == "fraud":
        return XGBoost(model, csv_separator)
    return RandomCutForest(model)


class XGBoost:
    """
    The built-in XGBoost, from 1.2-2 on.

    CSV answers are separated by newlines; *csv_separator* ``,`` gives the one
    line that older images and multi-model endpoints answer with.
    """

    def __init__(self, model: Predictor, csv_separator: str = "\n") -> None:
        self._model = model
        self._separator = csv_separator

    def invoke(self, body: bytes, content_type: str, accept: str) -> Answer:
        """Score every row of *body*. Raises ContainerError with 415, 400 or 406."""
        if not body:
            # The container answers 204 and no body.
            return Answer(b"", CSV, 0)
        rows = self._read(body, content_type)
        width = len(self._model.feature_names)
        if rows.shape[1] != width:
            reason = (
                f"Feature size of csv inference data {rows.shape[1]} is not consistent "
                f"with feature size of trained model {width}."
            )
            raise ContainerError(400, f"Unable to evaluate payload provided: {reason}")
        try:
            # Predictions are 32 bit floats, and answered with the digits of those.
            scores = self._model.predict(rows).tolist()
        except ValueError as error:
            raise ContainerError(400, f"Unable to evaluate payload provided: {error}") from error
        wanted = _media_type(accept)
        if wanted == JSON:
            return Answer(_to_json("predictions", scores), JSON, len(scores))
        if wanted in ("", "*/*", CSV):
            text = self._separator.join(map(str, scores))
            return Answer(text.encode(), f"{CSV}; charset=utf-8", len(scores))
        message = f"Accept type {accept} is not supported. Please use supported accept types: "
        raise ContainerError(406, f"{message}['{JSON}', '{CSV}'].")

    @staticmethod
    def _read(body: bytes, content_type: str) -> Rows:
        given = _media_type(content_type) or CSV
        if given != CSV:
            message = f"Content-type {given} not supported. Supported content-type is text/csv"
            raise ContainerError(415, message)
        try:
            return parse_csv(body)
        except ValueError as error:
            message = (
                "Loading csv data failed with Exception, please ensure data is in csv format:"
                f"\n {type(error)}\n {error}"
            )
            raise ContainerError(415, message) from error


class RandomCutForest:
    """The built-in Random Cut Forest; it answers in JSON only."""

    def __init__(self, model: Predictor) -> None:
        self._model = model

    def invoke(self, body: bytes, content_type: str, accept: str) -> Answer:
        """Score every row of *body*. Raises ContainerError with 415, 400 or 406."""
        given = _media_type(content_type)
        if given != CSV:
            raise ContainerError(415, f"content-type {given or 'none'} is not supported")
        if _media_type(accept) not in ("", "*/*", JSON):
            raise ContainerError(406, f"accept type {accept} is not supported")
        try:
            rows = parse_csv(body)
            if rows.shape[1] != len(self._model.feature_names) or not np.isfinite(rows).all():
                raise ContainerError(400, "unable to evaluate payload provided")
            scores = self._model.predict(rows).tolist()
        except ValueError as error:
            raise ContainerError(400, "unable to evaluate payload provided") from error
        return Answer(_to_json("scores", scores), JSON, len(scores))


def parse_csv(body: bytes) -> Rows:
    """
    Return the rows of *body*, shape (n, d); an empty field is a missing value, NaN.

    Raises ValueError for what is no number, no UTF-8 or not rectangular.
    """
    lines = body.strip().decode().split("\n")
    rows = [[float(field) if field else np.nan for field in _fields(line)] for line in lines]
    if len({len(row) for row in rows}) != 1:
        message = "setting an array element with a sequence: the rows differ in length"
        raise ValueError(message)
    return np.array(rows, dtype=np.float64)


def _fields(line: str) -> list[str]:
    return [field.strip() for field in line.split(",")]


def _media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()


def _to_json(key: str, scores: list[float]) -> bytes:
    return orjson.dumps({key: [{"score": score} for score in scores]})
