import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from consumer.errors import Misconfigured
from consumer.training.artefacts import load_anomaly, load_fraud, read_metrics
from consumer.training.dataset import Dataset
from consumer.training.examples import InMemory
from consumer.training.measures import choose_anomaly_threshold, choose_fraud_thresholds
from consumer.training.reference import read_reference
from consumer.training.settings import TrainingSettings
from consumer.training.train import Trained
from consumer.training.train import train as train_examples

QUICK = {
    "seed": 7,
    "threads": 1,
    "split": {"gap": "0s", "validation": 0.25},
    "classifier": {"rounds": 40, "patience": 30},
    "anomaly": {"trees": 20, "tree_size": 64, "rows": 500},
}
HASH = "ab" * 32
DAY_S = 86_400


def a_dataset(rows: int = 6_000, seed: int = 3) -> Dataset:
    """Twenty days in which a large amount after many payments is mostly a fraud."""
    random = np.random.default_rng(seed)
    amount = random.lognormal(3, 1, rows)
    count = random.poisson(2, rows).astype(float)
    noise = random.lognormal(3, 1, rows)
    risk = np.log(amount) + count + random.normal(0, 0.4, rows)
    return Dataset(
        names=("amount", "card_count_1h", "noise"),
        feature_hash=HASH,
        times_s=np.linspace(0, 20 * DAY_S, rows).astype(np.int64),
        rows=np.column_stack([amount, count, noise]).astype(np.float32),
        fraud=risk > np.quantile(risk, 0.97),
    )


def quick(**classifier: object) -> TrainingSettings:
    both = {**QUICK["classifier"], **classifier}  # type: ignore[dict-item]
    return TrainingSettings.model_validate({**QUICK, "classifier": both})


def train(dataset: Dataset, folder: Path, settings: TrainingSettings) -> Trained:
    return train_examples(InMemory(dataset), folder, settings)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(a_dataset(), tmp_path_factory.mktemp("models"), quick())


def number(metrics: Mapping[str, object], name: str) -> float:
    value = metrics[name]
    assert isinstance(value, int | float)
    return value


def test_both_models_find_what_they_can(trained: Trained) -> None:
    assert number(trained.metrics["fraud"], "roc_auc") > 0.95
    assert number(trained.metrics["fraud"], "average_precision") > 0.7
    assert number(trained.metrics["anomaly"], "roc_auc") > 0.7
    assert number(trained.metrics["fraud"], "trees") <= 40


def test_archives_carry_names_hash_and_metrics(trained: Trained) -> None:
    fraud, anomaly = load_fraud(trained.fraud), load_anomaly(trained.anomaly)
    assert fraud.feature_names == anomaly.feature_names == a_dataset().names
    assert fraud.feature_hash == anomaly.feature_hash == HASH
    assert read_metrics(trained.fraud) == trained.metrics["fraud"]
    assert read_metrics(trained.anomaly) == trained.metrics["anomaly"]


def test_thresholds_keep_their_promises_in_validation(trained: Trained) -> None:
    dataset = a_dataset()
    newest = dataset.times_s > 15 * DAY_S
    rows, fraud = dataset.rows[newest], dataset.fraud[newest]
    scores = load_fraud(trained.fraud).predict(rows)
    declined = scores >= trained.thresholds.fraud_decline
    assert declined.any()
    assert fraud[declined].mean() >= 0.9
    assert trained.thresholds.fraud_review <= trained.thresholds.fraud_decline
    reviewed = load_anomaly(trained.anomaly).predict(rows) >= trained.thresholds.anomaly_review
    assert 0 < reviewed.mean() < 0.03


def test_archives_propose_thresholds_for_their_own_score(trained: Trained) -> None:
    fraud, anomaly = read_reference(trained.fraud), read_reference(trained.anomaly)
    assert fraud.bands().thresholds == {
        "fraud_review": trained.thresholds.fraud_review,
        "fraud_decline": trained.thresholds.fraud_decline,
    }
    assert anomaly.bands().thresholds == {"anomaly_review": trained.thresholds.anomaly_review}
    assert (fraud.kind, anomaly.kind) == ("fraud", "anomaly")
    assert len({fraud.model, anomaly.model}) == 2
    assert fraud.model == hashlib.sha256(trained.fraud.read_bytes()).hexdigest()[:12]


def test_archives_tell_how_scores_are_spread(trained: Trained) -> None:
    for metrics in (trained.metrics["fraud"], trained.metrics["anomaly"]):
        quantiles = metrics["score_quantiles"]
        assert isinstance(quantiles, dict)
        assert list(quantiles) == ["0.5", "0.9", "0.95", "0.99", "0.995", "0.999"]
        assert list(quantiles.values()) == sorted(quantiles.values())


def test_an_anomaly_begins_at_a_share_or_three_deviations_above_the_mean() -> None:
    scores = np.array([1.0, 1.0, 1.0, 5.0])
    assert choose_anomaly_threshold(scores, 0.25) == pytest.approx(2.0)
    assert choose_anomaly_threshold(scores, None) == pytest.approx(2 + 3 * np.sqrt(3))


def test_the_same_seed_gives_the_same_archives(trained: Trained, tmp_path: Path) -> None:
    again = train(a_dataset(), tmp_path, quick())
    assert again.fraud.read_bytes() == trained.fraud.read_bytes()
    assert again.anomaly.read_bytes() == trained.anomaly.read_bytes()
    assert again.thresholds == trained.thresholds


def test_a_score_means_a_probability(tmp_path: Path) -> None:
    dataset = a_dataset(20_000)
    whole = train(dataset, tmp_path, quick(rounds=200))
    scores = load_fraud(whole.fraud).predict(dataset.rows)
    assert scores.mean() == pytest.approx(dataset.fraud.mean(), rel=0.1)
    assert len(np.unique(scores)) > 1_000


def test_thinned_out_rows_keep_the_meaning_of_a_probability(tmp_path: Path) -> None:
    dataset = a_dataset(20_000)
    settings = quick(rounds=200, max_rows=3_000)
    thinned = train(dataset, tmp_path, settings)
    scores = load_fraud(thinned.fraud).predict(dataset.rows)
    assert scores.mean() == pytest.approx(dataset.fraud.mean(), rel=0.25)


def test_a_history_without_frauds_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    dataset = a_dataset()
    honest = replace(dataset, fraud=np.zeros_like(dataset.fraud))
    with pytest.raises(Misconfigured, match="training rows with 0 known frauds"):
        train(honest, tmp_path, quick())
    recent = replace(dataset, fraud=dataset.fraud & (dataset.times_s < 15 * DAY_S))
    with pytest.raises(Misconfigured, match="validation rows with 0 known frauds"):
        train(recent, tmp_path, quick())


def test_an_empty_history_is_refused(tmp_path: Path) -> None:
    dataset = a_dataset(100)
    empty = replace(
        dataset, times_s=dataset.times_s[:0], rows=dataset.rows[:0], fraud=dataset.fraud[:0]
    )
    with pytest.raises(Misconfigured, match="no rows"):
        train(empty, tmp_path, quick())


def test_decline_begins_where_precision_is_reached_and_review_at_the_best_f1() -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    fraud = np.array([0, 0, 0, 1, 0, 1, 1, 1], bool)
    assert choose_fraud_thresholds(fraud, scores, decline_precision=0.9) == (0.4, 0.6)
    assert choose_fraud_thresholds(fraud, scores, decline_precision=0.5) == (0.1, 0.1)


def test_without_a_precise_score_nothing_below_certainty_is_declined() -> None:
    scores = np.array([0.1, 0.5, 0.9])
    fraud = np.array([1, 1, 0], bool)
    review, decline = choose_fraud_thresholds(fraud, scores, decline_precision=0.9)
    assert (review, decline) == (0.1, 1.0)
