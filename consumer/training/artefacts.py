"""
Model archives: what training writes and an endpoint serves.

An archive is the ``model.tar.gz`` that SageMaker hands to a container:

    fraud      ``xgboost-model``   the booster in UBJSON, as the built-in XGBoost loads it
    anomaly    ``forest.msgpack``  the trees of the random cut forest as krcf stores them
               ``forest.json``     format, parameters and what each input is made of
    both       ``features.json``   ordered feature names and the hash of the feature plan
               ``metrics.json``    quality and thresholds measured in training
               ``training.json``   settings, data sets, split and versions; not in old archives
               ``manifest.json``   kind, and the SHA-256 of every other member

Nothing in it is a pickle, so loading runs no code of the archive's author, and
every member is checked against the manifest before it is parsed. The same input
gives the same bytes: times, owners and modes in the tar are constants.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import krcf
import msgspec
import numpy as np
import numpy.typing as npt
import xgboost

from consumer.training import archive
from consumer.training.archive import Kind, problem, to_json
from consumer.training.forest import Forest
from consumer.training.scaling import Column, Scaling

Rows = npt.NDArray[np.floating]
Values = npt.NDArray[np.float64]
_Shape = TypeVar("_Shape")

_BOOSTER: Final = "xgboost-model"
_FOREST_STATE: Final = "forest.msgpack"
_FOREST: Final = "forest.json"
_FEATURES: Final = "features.json"
_METRICS: Final = "metrics.json"
_TRAINING: Final = "training.json"
_MEMBERS: Final[Mapping[str, frozenset[str]]] = {
    "fraud": frozenset({_BOOSTER, _FEATURES, _METRICS}),
    "anomaly": frozenset({_FOREST, _FOREST_STATE, _FEATURES, _METRICS}),
}
_OPTIONAL: Final = frozenset({_TRAINING})
_FOREST_FORMAT: Final = "fraudstream-rcf-2"
_SCALED_FORMAT: Final = "fraudstream-rcf-1"


class Model(Protocol):
    """A trained model that scores rows in the order of its feature names."""

    @property
    def kind(self) -> Kind:
        """``fraud`` (a probability) or ``anomaly`` (a score ≥ 0)."""
        ...

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The features in the order of a row's columns."""
        ...

    @property
    def feature_hash(self) -> str:
        """Hash of the feature plan that the model was trained on."""
        ...

    def predict(self, rows: Rows) -> Values:
        """
        Score *rows*, shape (n, d) with d the number of feature names, as shape (n,).

        Raises ValueError when d differs: the built-in containers let a row that
        is short by one column pass with a wrong score.
        """
        ...


class _Features(msgspec.Struct, frozen=True):
    names: tuple[str, ...]
    hash: str


class _ForestFile(msgspec.Struct, frozen=True):
    format: str
    parameters: dict[str, int]
    scaling: dict[str, Any] | None = None
    # Of the earlier format, in which every feature was scaled and nothing else.
    centre: list[float] = []
    spread: list[float] = []


@dataclass(frozen=True, slots=True)
class FraudModel:
    """An XGBoost booster with the features it was trained on."""

    booster: xgboost.Booster
    feature_names: tuple[str, ...]
    feature_hash: str
    kind: Kind = "fraud"

    def predict(self, rows: Rows) -> Values:
        """Score rows of shape (n, d) as probabilities in [0, 1], shape (n,)."""
        checked = _check_width(rows, self.feature_names)
        if not len(checked):
            return np.empty(0)
        return np.asarray(self.booster.inplace_predict(checked), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class AnomalyModel:
    """A random cut forest with the features it was trained on."""

    forest: Forest
    feature_names: tuple[str, ...]
    feature_hash: str
    kind: Kind = "anomaly"

    def predict(self, rows: Rows) -> Values:
        """Score rows of shape (n, d), shape (n,): low for the usual, more for the unusual."""
        return self.forest.score(_check_width(rows, self.feature_names))


def write_fraud(
    path: Path,
    booster: xgboost.Booster,
    names: Sequence[str],
    feature_hash: str,
    metrics: Mapping[str, object],
    training: Mapping[str, object] | None = None,
) -> None:
    """
    Write *booster* as the archive *path*, replacing it whole.

    The booster must carry no feature names of its own: containers give it
    nameless columns and XGBoost would refuse them.
    """
    members = {_BOOSTER: bytes(booster.save_raw("ubj"))}
    archive.write(path, "fraud", members | _describe(names, feature_hash, metrics, training))


def write_anomaly(
    path: Path,
    forest: Forest,
    names: Sequence[str],
    feature_hash: str,
    metrics: Mapping[str, object],
    training: Mapping[str, object] | None = None,
) -> None:
    """Write *forest* as the archive *path*, replacing it whole."""
    description = _ForestFile(
        format=_FOREST_FORMAT,
        parameters=forest.parameters,
        scaling=forest.scaling.to_dict(),
    )
    members = {
        _FOREST: to_json(description),
        _FOREST_STATE: forest.trees.to_msgpack(),
    }
    archive.write(path, "anomaly", members | _describe(names, feature_hash, metrics, training))


def load(path: Path) -> FraudModel | AnomalyModel:
    """
    Load the model of either kind from the archive *path*.

    Raises Misconfigured, naming the archive and the member, when the archive is
    missing, incomplete, altered or of a format this version does not know.
    """
    kind, members = _read(path)
    features = _decode(path, members, _FEATURES, _Features)
    if kind == "fraud":
        booster = _load_booster(path, members[_BOOSTER])
        _check_names(path, features, booster.num_features())
        return FraudModel(booster, features.names, features.hash)
    forest = _load_forest(path, members)
    _check_names(path, features, forest.dimensions)
    return AnomalyModel(forest, features.names, features.hash)


def load_fraud(path: Path) -> FraudModel:
    """Load a fraud model; raises Misconfigured as ``load`` does, and for an anomaly model."""
    model = load(path)
    if not isinstance(model, FraudModel):
        raise problem(path, "kind", model.kind, "fraud")
    return model


def load_anomaly(path: Path) -> AnomalyModel:
    """Load an anomaly model; raises Misconfigured as ``load`` does, and for a fraud model."""
    model = load(path)
    if not isinstance(model, AnomalyModel):
        raise problem(path, "kind", model.kind, "anomaly")
    return model


def read_metrics(path: Path) -> dict[str, object]:
    """Return what training measured, ``thresholds`` among it. Raises Misconfigured."""
    _, members = _read(path)
    return _decode(path, members, _METRICS, dict[str, object])


def _check_width(rows: Rows, names: Sequence[str]) -> npt.NDArray[np.float32]:
    if rows.shape[1:] != (len(names),):
        message = f"rows of shape {rows.shape}, expected (n, {len(names)})"
        raise ValueError(message)
    return np.ascontiguousarray(rows, dtype=np.float32)


def _describe(
    names: Sequence[str],
    feature_hash: str,
    metrics: Mapping[str, object],
    training: Mapping[str, object] | None,
) -> dict[str, bytes]:
    members = {
        _FEATURES: to_json(_Features(tuple(names), feature_hash)),
        _METRICS: to_json(dict(metrics)),
    }
    return members if training is None else {**members, _TRAINING: to_json(dict(training))}


def _read(path: Path) -> tuple[Kind, dict[str, bytes]]:
    kind, members = archive.read(path)
    if members.keys() - _OPTIONAL != _MEMBERS[kind]:
        found, expected = sorted(members), sorted(_MEMBERS[kind])
        raise problem(path, "members", ", ".join(found), ", ".join(expected))
    return kind, members


def _check_names(path: Path, features: _Features, dimensions: int) -> None:
    if len(features.names) != dimensions:
        raise problem(path, _FEATURES, f"{len(features.names)} names", f"{dimensions} names")


def _decode(path: Path, members: Mapping[str, bytes], name: str, shape: type[_Shape]) -> _Shape:
    try:
        return msgspec.json.decode(members[name], type=shape)
    except msgspec.DecodeError as error:
        raise problem(path, name, str(error), "JSON of this package") from error


def _load_booster(path: Path, data: bytes) -> xgboost.Booster:
    booster = xgboost.Booster()
    try:
        booster.load_model(bytearray(data))
    except xgboost.core.XGBoostError as error:
        raise problem(path, _BOOSTER, "no readable booster", "UBJSON of XGBoost") from error
    # Endpoints scale by processes; a pool of threads a request only adds contention.
    booster.set_param({"nthread": 1})
    return booster


def _load_forest(path: Path, members: Mapping[str, bytes]) -> Forest:
    description = _decode(path, members, _FOREST, _ForestFile)
    if description.format not in {_FOREST_FORMAT, _SCALED_FORMAT}:
        raise problem(path, _FOREST, f"format {description.format}", _FOREST_FORMAT)
    try:
        trees = krcf.RandomCutForest.from_msgpack(members[_FOREST_STATE])
    except RuntimeError as error:
        raise problem(path, _FOREST_STATE, "no readable forest", "state of krcf") from error
    told = description.scaling
    try:
        scaling = _earlier_scaling(description) if told is None else Scaling.from_dict(told)
    except (ValueError, ZeroDivisionError) as error:
        expected = "what each input of the trees is made of"
        raise problem(path, _FOREST, str(error), expected) from error
    if len(scaling.columns) != trees.dimensions():
        found = f"{len(scaling.columns)} inputs"
        raise problem(path, _FOREST, found, f"{trees.dimensions()}, as many as the trees have")
    return Forest(trees, scaling, description.parameters)


def _earlier_scaling(description: _ForestFile) -> Scaling:
    """What the earlier format says: for every feature what to reduce it by and divide it by."""
    pairs = zip(description.centre, description.spread, strict=True)
    columns = [
        Column(at=at, shape="standard", centre=centre, factor=1 / spread)
        for at, (centre, spread) in enumerate(pairs)
    ]
    return Scaling(len(columns), tuple(columns))
