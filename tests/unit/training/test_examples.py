from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from consumer.errors import Misconfigured
from consumer.training.dataset_file import NEVER_MS, DatasetWriter, Head
from consumer.training.examples import Limit, Part, load, open_files
from consumer.training.split import Period
from tests.datasets import DAY_MS, FIRST_MS, Made, block_of, values_of, write_dataset

SMALL = Made(rows=400, days=20, share=0.1)
ALL = Period(0, FIRST_MS + 400 * DAY_MS)
EVERY_ROW = Limit(10_000, 1)


def read_all(*paths: Path, known_ms: int = NEVER_MS, limit: Limit = EVERY_ROW) -> Part:
    examples = open_files(paths)
    return load(examples, np.ones(len(examples.index.times_ms), bool), ALL, known_ms, limit)


def refused(*paths: Path) -> str:
    with pytest.raises(Misconfigured) as caught:
        open_files(paths)
    (problem,) = caught.value.problems
    return str(problem)


def test_several_files_become_one_history_in_order(tmp_path: Path) -> None:
    later = write_dataset(tmp_path / "a.parquet", replace(SMALL, first=400, day=20, seed=4))
    earlier = write_dataset(tmp_path / "b.parquet", SMALL)
    part = read_all(later, earlier)
    expected = np.concatenate([values_of(SMALL)[0], values_of(replace(SMALL, seed=4))[0]])
    assert np.array_equal(part.rows, expected.astype(np.float32))
    assert (np.diff(part.times_ms) > 0).all()
    assert part.frauds == 80


def test_a_folder_stands_for_the_parts_in_it(tmp_path: Path) -> None:
    write_dataset(tmp_path / "part-0.parquet", SMALL)
    write_dataset(tmp_path / "part-1.parquet", replace(SMALL, first=400, day=20))
    assert len(read_all(tmp_path).rows) == 800
    (tmp_path / "empty").mkdir()
    assert "the folder: found none" in refused(tmp_path / "empty")


def test_files_that_overlap_in_time_are_read_in_order_of_time(tmp_path: Path) -> None:
    one = write_dataset(tmp_path / "a.parquet", SMALL)
    two = write_dataset(tmp_path / "b.parquet", replace(SMALL, first=400, day=10))
    part = read_all(one, two)
    assert (np.diff(part.times_ms) >= 0).all()
    values, _ = values_of(SMALL)
    at = int(np.flatnonzero(part.times_ms == FIRST_MS)[0])
    assert np.array_equal(part.rows[at], values[0].astype(np.float32))


def test_a_fraud_is_not_known_before_its_label_time(tmp_path: Path) -> None:
    path = write_dataset(tmp_path / "a.parquet", SMALL)
    whole = read_all(path)
    known = read_all(path, known_ms=FIRST_MS + 17 * DAY_MS)
    early = whole.fraud & (whole.times_ms <= FIRST_MS + 10 * DAY_MS)
    assert np.array_equal(known.fraud, early)
    assert known.late == 40 - known.frauds > 0
    assert whole.late == 0
    assert known.cut(ALL, FIRST_MS + 8 * DAY_MS).frauds < known.frauds


def test_a_fraud_without_a_label_time_is_known_after_the_delay(tmp_path: Path) -> None:
    head = Head(features=SMALL.names, feature_hash=SMALL.feature_hash, label_delay_s=5 * 86_400)
    path = tmp_path / "a.parquet"
    with DatasetWriter(path, head) as writer:
        writer.write(replace(block_of(SMALL), label_times_ms=[None] * SMALL.rows))
    part = read_all(path)
    waited = part.label_times_ms[part.fraud] - part.times_ms[part.fraud]
    assert set(waited.tolist()) == {5 * DAY_MS}


def test_above_the_limit_legitimate_rows_stand_for_more(tmp_path: Path) -> None:
    path = write_dataset(tmp_path / "a.parquet", SMALL)
    part = read_all(path, limit=Limit(100, 1))
    assert (len(part.rows), part.frauds, part.total) == (100, 40, 400)
    assert set(part.weights[part.fraud].tolist()) == {1.0}
    assert set(part.weights[~part.fraud].tolist()) == {6.0}
    assert np.array_equal(part.rows, read_all(path, limit=Limit(100, 1)).rows)
    assert not np.array_equal(part.rows, read_all(path, limit=Limit(100, 2)).rows)


def test_a_transaction_that_stands_twice_is_named(tmp_path: Path) -> None:
    one = write_dataset(tmp_path / "a.parquet", SMALL)
    two = write_dataset(tmp_path / "b.parquet", replace(SMALL, first=390, day=20))
    said = refused(one, two)
    assert f"{two}: transaction_id: found tx_390 in row 1, which is row 391 " in said
    assert f"of {one} already (10 such rows), expected each transaction once" in said


def test_data_sets_of_other_features_are_told_apart_by_name(tmp_path: Path) -> None:
    one = write_dataset(tmp_path / "a.parquet", SMALL)
    fewer = Made(rows=10, names=SMALL.names[:3], feature_hash="ef" * 32, first=900)
    said = refused(one, write_dataset(tmp_path / "b.parquet", fewer))
    assert "feature_hash: found efefefefefef… (without card_max_1d), expected" in said
    turned = replace(fewer, names=(*SMALL.names[:2], SMALL.names[3], SMALL.names[2]))
    said = refused(one, write_dataset(tmp_path / "b.parquet", turned))
    assert "card_max_1d in place 3, where card_seconds belongs" in said
    same = replace(fewer, names=SMALL.names)
    said = refused(one, write_dataset(tmp_path / "b.parquet", same))
    assert "the same names, defined in another way" in said


def test_rows_of_which_nobody_said_anything_are_refused(tmp_path: Path) -> None:
    said = refused(write_dataset(tmp_path / "a.parquet", replace(SMALL, labelled=False)))
    assert "fraud: found 400 rows, no label, expected labels: --map label=COLUMN" in said
