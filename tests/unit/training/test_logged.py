import gzip
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from consumer.errors import Misconfigured
from consumer.evaluation.label_source import read_labels
from consumer.training.dataset_file import NEVER_MS, open_dataset
from consumer.training.logged import Log, is_dataset, write_logged
from tests.datasets import Made, write_dataset

NAMES, HASH = ("amount", "card_count_1h"), "ab" * 32
NOON_MS = 1_780_315_200_000


def a_row(number: int, **values: object) -> dict[str, object]:
    """A row as Firehose delivers it, as far as training looks at it."""
    return {
        "transaction_id": f"tx_{number}",
        "event_time": f"2026-06-01 12:00:{number:02d}.250",
        "card_id": "card_1",
        "base_amount": number * 1.5,
        "degraded": [],
        "feature_hash": HASH,
        "f_amount": number * 1.5,
        "f_card_count_1h": number,
        "f_other": "passed over",
        **values,
    }


def lines(path: Path, *rows: Mapping[str, object]) -> Path:
    body = b"".join(orjson.dumps(row) + b"\n" for row in rows)
    path.write_bytes(gzip.compress(body) if path.suffix == ".gz" else body)
    return path


def logged(tmp_path: Path, *files: Path, labels: Path | None = None) -> Mapping[str, int]:
    known = None if labels is None else read_labels([labels])
    return write_logged(Log(files, NAMES, HASH, known, 86_400), tmp_path / "out.parquet")


def test_rows_become_a_data_set_with_the_labels_that_came(tmp_path: Path) -> None:
    one = lines(tmp_path / "stream-1-2026-06-01-12-00-00-abc", a_row(2), a_row(3))
    two = lines(tmp_path / "rows.gz", a_row(1))
    labels = lines(
        tmp_path / "labels.ndjson",
        {"transaction_id": "tx_2", "label": "fraud", "label_time": "2026-06-08T12:00:00Z"},
        {"transaction_id": "tx_1", "label": "legitimate", "label_time": "2026-06-09T12:00:00Z"},
    )
    counts = logged(tmp_path, one, two, labels=labels)
    assert counts == {"read": 3, "used": 3, "degraded": 0, "other_features": 0, "repeated": 0}
    opened = open_dataset(tmp_path / "out.parquet")
    index = opened.read_index()
    assert index.labels.tolist() == [1, -1, 0]
    assert index.times_ms.tolist() == [NOON_MS + n * 1000 + 250 for n in (2, 3, 1)]
    assert index.label_times_ms.tolist() == [
        NOON_MS + 7 * 86_400_000,
        NEVER_MS,
        NOON_MS + 8 * 86_400_000,
    ]
    (rows,) = opened.read_rows(np.ones(3, bool))
    assert rows.tolist() == [[3.0, 2.0], [4.5, 3.0], [1.5, 1.0]]
    assert (opened.head.features, opened.head.order) == (NAMES, "arrival")


def test_degraded_repeated_and_earlier_rows_are_left_out(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "rows.ndjson",
        a_row(1),
        a_row(2, degraded=["timeout"]),
        a_row(1),
        a_row(3, feature_hash="ef" * 32),
    )
    counts = logged(tmp_path, path)
    assert counts == {"read": 4, "used": 1, "degraded": 1, "other_features": 1, "repeated": 1}


def test_decisions_of_a_replay_bring_their_labels(tmp_path: Path) -> None:
    times = pa.array([NOON_MS, NOON_MS + 1], pa.timestamp("ms", "UTC"))
    table = pa.table(
        {
            "transaction_id": ["tx_1", "tx_2"],
            "event_time": times,
            "card_id": ["c", "c"],
            "base_amount": [1.0, 2.0],
            "degraded": pa.array([[], []], pa.list_(pa.string())),
            "feature_hash": [HASH, HASH],
            "f_amount": [1.0, 2.0],
            "f_card_count_1h": [1.0, 2.0],
            "fraud": [True, None],
            "label_time": pa.array([NOON_MS + 5, None], pa.timestamp("ms", "UTC")),
        }
    )
    path = tmp_path / "decisions.parquet"
    pq.write_table(table, path)
    logged(tmp_path, path)
    index = open_dataset(tmp_path / "out.parquet").read_index()
    assert index.labels.tolist() == [1, -1]
    assert index.label_times_ms.tolist() == [NOON_MS + 5, NEVER_MS]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (a_row(1, card_id=None), "line 2: found no card_id"),
        (a_row(1, f_amount=None), "line 2: found no f_amount"),
        (a_row(1, f_amount="x"), "line 2: found f_amount 'x', expected a finite number"),
        (a_row(1, event_time="noon"), "line 2: found event_time 'noon', expected a time"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(
    row: Mapping[str, object], said: str, tmp_path: Path
) -> None:
    path = lines(tmp_path / "rows.ndjson", a_row(2), row)
    with pytest.raises(Misconfigured) as caught:
        logged(tmp_path, path)
    assert str(caught.value).startswith(f"{path}: {said}")
    assert not (tmp_path / "out.parquet").exists()


def test_rows_of_another_feature_list_alone_are_refused(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.ndjson", a_row(1, feature_hash="ef" * 32))
    with pytest.raises(Misconfigured, match=r"no usable row of 1 \(1 other_features, 0 degraded\)"):
        logged(tmp_path, path)


def test_data_sets_are_told_from_decisions(tmp_path: Path) -> None:
    assert is_dataset(write_dataset(tmp_path / "a.parquet", Made(rows=10)))
    assert not is_dataset(lines(tmp_path / "rows.ndjson", a_row(1)))
    pq.write_table(pa.table({"transaction_id": ["a"]}), tmp_path / "b.parquet")
    assert not is_dataset(tmp_path / "b.parquet")


def test_a_data_set_that_lost_its_metadata_is_told_from_decisions(tmp_path: Path) -> None:
    written = write_dataset(tmp_path / "history.parquet", Made(rows=50))
    copy = tmp_path / "copy.parquet"
    pq.write_table(pq.read_table(written), copy)
    assert is_dataset(written)
    with pytest.raises(Misconfigured, match="without its metadata `fraudstream`"):
        is_dataset(copy)
