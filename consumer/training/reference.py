"""What a model archive says of its training, read without any model library."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from consumer.drift import Bins
from consumer.training import archive


class _Features(msgspec.Struct):
    names: tuple[str, ...]
    hash: str


class _Metrics(msgspec.Struct):
    bins: dict[str, Bins] = {}


@dataclass(frozen=True, slots=True)
class Reference:
    """The hash of the feature list, and the bins of features and score; none in old archives."""

    feature_hash: str
    bins: Mapping[str, Bins]


def read_reference(path: Path) -> Reference:
    """Read the archive *path*. Raises Misconfigured, naming the member that is wrong."""
    _, members = archive.read(path)
    try:
        features = msgspec.json.decode(members["features.json"], type=_Features)
        metrics = msgspec.json.decode(members["metrics.json"], type=_Metrics)
    except (KeyError, msgspec.DecodeError) as error:
        found, expected = str(error), "features.json and metrics.json of this package"
        raise archive.problem(path, "members", found, expected) from error
    return Reference(features.hash, metrics.bins)
