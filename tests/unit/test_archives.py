"""What the archives of the settings say, and how one that cannot be used is refused."""

from pathlib import Path

import pytest

from consumer.errors import Misconfigured
from consumer.features.specification import parse_plan
from consumer.followers import Archives
from consumer.settings import EndpointSettings, Scoring
from consumer.training.archive import to_json, write
from consumer.training.reference import read_reference

PLAN = parse_plan(
    """
version: 1
entities: {card: {key: card_id}}
features:
  - {name: card_count, entity: card, aggregation: count, windows: [1h]}
""",
    source="features",
)


def an_archive(folder: Path, **thresholds: float) -> Path:
    path = folder / "anomaly.tar.gz"
    members = {
        "features.json": to_json({"names": PLAN.names, "hash": PLAN.hash}),
        "metrics.json": to_json({"thresholds": thresholds}),
    }
    write(path, "anomaly", members)
    return path


def archives(fraud: Path | None = None, anomaly: Path | None = None) -> Archives:
    scoring = Scoring(
        fraud=EndpointSettings(name="fraud", archive=str(fraud) if fraud else None),
        anomaly=EndpointSettings(name="anomaly", archive=str(anomaly) if anomaly else None),
    )
    return Archives(scoring, PLAN, lambda source, _target: Path(source))


def test_an_archive_gives_the_bands_of_its_model(tmp_path: Path) -> None:
    path = an_archive(tmp_path, anomaly_review=1.7)
    found = archives(anomaly=path)
    bands = found.bands("anomaly")
    assert bands is not None
    assert (bands.thresholds, bands.model) == ({"anomaly_review": 1.7}, read_reference(path).model)
    assert found.bands("fraud") is None


def test_an_archive_without_thresholds_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as refused:
        archives(anomaly=an_archive(tmp_path)).bands("anomaly")
    (problem,) = refused.value.problems
    assert problem.key == "scoring.anomaly.archive"
    assert problem.found.endswith("anomaly.tar.gz with no anomaly_review")
    assert "decision.anomaly_review" in problem.expected


def test_the_archive_of_the_other_model_is_refused(tmp_path: Path) -> None:
    swapped = archives(fraud=an_archive(tmp_path, anomaly_review=1.7))
    with pytest.raises(Misconfigured, match="a model of anomaly, expected one of fraud"):
        swapped.check()
    with pytest.raises(Misconfigured, match="a model of anomaly, expected one of fraud"):
        swapped.bands("fraud")
