import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from consumer.errors import Misconfigured
from consumer.training import dataset_file
from consumer.training.dataset_file import (
    METADATA_KEY,
    NEVER_MS,
    Block,
    DatasetWriter,
    Head,
    open_dataset,
)

HEAD = Head(
    features=("amount", "card_count_1h"),
    feature_hash="ab" * 32,
    label_delay_s=604_800,
    source=("history.parquet",),
)
NOON_MS = 1_780_000_000_000


def a_block(first: int = 0, rows: int = 4) -> Block:
    numbers = range(first, first + rows)
    return Block(
        transaction_ids=[f"tx_{n}" for n in numbers],
        times_ms=[NOON_MS + n * 1000 for n in numbers],
        card_ids=[f"card_{n % 3}" for n in numbers],
        amounts=[n / 4 for n in numbers],
        frauds=[(None, False, True)[n % 3] for n in numbers],
        label_times_ms=[NOON_MS + 604_800_000 if n % 3 == 2 else None for n in numbers],
        values=[[n / 4, float(n)] for n in numbers],
    )


def written(path: Path, blocks: Sequence[Block] = (a_block(),), head: Head = HEAD) -> Path:
    with DatasetWriter(path, head) as writer:
        for block in blocks:
            writer.write(block)
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    opened = open_dataset(written(tmp_path / "a.parquet"))
    index = opened.read_index()
    assert index.times_ms.tolist() == [NOON_MS + n * 1000 for n in range(4)]
    assert index.labels.tolist() == [-1, 0, 1, -1]
    assert index.label_times_ms.tolist() == [NEVER_MS, NEVER_MS, NOON_MS + 604_800_000, NEVER_MS]
    assert len(set(index.keys.tolist())) == 4
    # The label of the newest row was released a delay after it, had it one.
    assert index.as_of_ms == NOON_MS + 3_000 + 604_800_000
    (rows,) = opened.read_rows(np.array([True, False, True, True]))
    assert rows.tolist() == [[0, 0], [0.5, 2], [0.75, 3]]
    assert rows.dtype == np.float32


def test_the_head_tells_features_times_and_counts(tmp_path: Path) -> None:
    head = open_dataset(written(tmp_path / "a.parquet")).head
    assert (head.features, head.feature_hash) == (HEAD.features, HEAD.feature_hash)
    assert (head.rows, head.frauds, head.label_delay_s) == (4, 1, 604_800)
    assert head.first_time == "2026-05-28T20:26:40.000Z"
    assert head.last_time == "2026-05-28T20:26:43.000Z"


def test_an_empty_data_set_is_one_too(tmp_path: Path) -> None:
    opened = open_dataset(written(tmp_path / "a.parquet", []))
    assert (opened.rows, opened.head.first_time) == (0, None)
    assert len(opened.read_index().times_ms) == 0


def test_equal_rows_make_equal_bytes_in_whatever_blocks_they_come(tmp_path: Path) -> None:
    rows = dataset_file.ROW_GROUP_ROWS * 2 + 7
    whole = written(tmp_path / "a.parquet", [a_block(0, rows)])
    chance = random.Random(4)
    cuts = sorted(chance.sample(range(1, rows), 9))
    pairs = zip([0, *cuts], [*cuts, rows], strict=True)
    parts = written(tmp_path / "b.parquet", [a_block(a, b - a) for a, b in pairs])
    assert whole.read_bytes() == parts.read_bytes()
    assert pq.ParquetFile(whole).num_row_groups == 3


def test_after_an_error_nothing_stands_there(tmp_path: Path) -> None:
    def write() -> None:
        with DatasetWriter(tmp_path / "a.parquet", HEAD) as writer:
            writer.write(a_block())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_writer_takes_no_rows_that_are_out_of_order(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not in order"):
        written(tmp_path / "a.parquet", [a_block(8), a_block(0)])
    arrival = Head(features=HEAD.features, feature_hash=HEAD.feature_hash, order="arrival")
    opened = open_dataset(written(tmp_path / "b.parquet", [a_block(8), a_block(0)], arrival))
    assert (np.diff(opened.read_index().times_ms) < 0).any()
    assert opened.head.first_time == "2026-05-28T20:26:40.000Z"


def test_a_writer_takes_no_values_that_a_model_could_not_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="card_count_1h is nan"):
        written(tmp_path / "a.parquet", [replace(a_block(0, 1), values=[[1.0, np.nan]])])
    with pytest.raises(ValueError, match="expected \\(n, 2\\)"):
        written(tmp_path / "a.parquet", [replace(a_block(0, 1), values=[[1.0]])])


def rewritten(path: Path, table: pa.Table, metadata: bytes | None = None) -> Path:
    kept = pq.read_schema(path).metadata or {}
    old = pq.ParquetFile(path).metadata.metadata[METADATA_KEY]
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table)
        if metadata != b"":
            writer.add_key_value_metadata({**kept, METADATA_KEY: metadata or old})
    return path


def refused(path: Path) -> str:
    def read_all() -> None:
        opened = open_dataset(path)
        opened.read_index()
        list(opened.read_rows(np.ones(opened.rows, bool)))

    with pytest.raises(Misconfigured) as caught:
        read_all()
    (problem,) = caught.value.problems
    assert problem.source == str(path)
    return str(problem).removeprefix(f"{path}: ")


def test_a_file_that_is_missing_or_no_data_set_is_named(tmp_path: Path) -> None:
    assert "found no such file" in refused(tmp_path / "none.parquet")
    text = tmp_path / "text.parquet"
    text.write_text("transaction_id,fraud\n")
    assert "expected a data set of fraudstream replay --to dataset" in refused(text)
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"a": [1], "b": [2]}), other)
    assert "found columns a, b without its metadata" in refused(other)
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(written(tmp_path / "a.parquet").read_bytes()[:-9])
    assert "expected a data set" in refused(cut)


def test_a_head_of_another_format_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet")
    table = pq.read_table(path)
    body = b'{"format": 2, "features": [], "feature_hash": ""}'
    assert refused(rewritten(path, table, body)).startswith("format: found 2")
    assert refused(rewritten(path, table, b"{")).startswith("fraudstream: found")


def test_columns_other_than_the_head_says_are_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet")
    table = pq.read_table(path)
    names = table.column_names
    swapped = table.select([*names[:6], names[7], names[6]])
    assert refused(rewritten(path, swapped)).startswith(
        "column 7: found f_card_count_1h, expected f_amount"
    )


def test_a_missing_column_and_one_of_another_type_are_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet")
    table = pq.read_table(path)
    short = table.select(table.column_names[:7])
    assert "column 8: found nothing, expected f_card_count_1h" in refused(rewritten(path, short))
    wrong = table.set_column(7, "f_card_count_1h", pa.array(["1", "2", "3", "4"]))
    assert "f_card_count_1h: found string, expected double" in refused(rewritten(path, wrong))


def test_rows_out_of_order_and_values_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet")
    table = pq.read_table(path)
    back = table.take(pa.array([0, 2, 1, 3]))
    assert "found row 3 of 2026-05-28T20:26:41.000Z after 2026-05-28T20:26:42" in refused(
        rewritten(path, back)
    )
    for value, shown in ((np.nan, "nan"), (np.inf, "inf"), (1e300, "1e+300")):
        wrong = table.set_column(7, "f_card_count_1h", pa.array([1.0, 2.0, value, 4.0]))
        assert f"card_count_1h: found {shown} in row 3" in refused(rewritten(path, wrong))
