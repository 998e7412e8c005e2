"""What a model archive says of its training, read without any model library."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from consumer.bands import MODEL_DIGITS, ModelBands, check_bands
from consumer.drift import Bins
from consumer.training import archive
from consumer.training.archive import Kind


class _Features(msgspec.Struct):
    names: tuple[str, ...]
    hash: str


class _Metrics(msgspec.Struct):
    bins: dict[str, Bins] = {}
    thresholds: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class Reference:
    """
    The kind of model, the hash of its feature list, the bins of features and score, and the
    thresholds it proposes; old archives have neither of these two.

    ``model`` is the beginning of the SHA-256 of the archive.
    """

    kind: Kind
    feature_hash: str
    bins: Mapping[str, Bins]
    thresholds: Mapping[str, float]
    model: str

    def bands(self) -> ModelBands:
        """The thresholds. Raises ValueError, saying what is wrong with them."""
        return check_bands(self.kind, self.thresholds, self.model)


def read_reference(path: Path) -> Reference:
    """Read the archive *path*. Raises Misconfigured, naming the member that is wrong."""
    kind, members = archive.read(path)
    try:
        features = msgspec.json.decode(members["features.json"], type=_Features)
        metrics = msgspec.json.decode(members["metrics.json"], type=_Metrics)
    except (KeyError, msgspec.DecodeError) as error:
        found, expected = str(error), "features.json and metrics.json of this package"
        raise archive.problem(path, "members", found, expected) from error
    model = hashlib.sha256(path.read_bytes()).hexdigest()[:MODEL_DIGITS]
    return Reference(kind, features.hash, metrics.bins, metrics.thresholds, model)
