"""``fraudstream replay`` before it replays anything: a dry run, and what it refuses."""

import json
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest

from consumer.__main__ import main
from tests.replaying import generate, write_history


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def history(tmp_path: Path, *more: bytes) -> str:
    path = write_history(tmp_path / "history.ndjson", generate(50))
    with path.open("ab") as file:
        file.writelines(line + b"\n" for line in more)
    return str(path)


def test_a_dry_run_tells_what_would_be_done_and_does_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = history(tmp_path)
    assert main(["replay", source, "--to", "dataset", "o.parquet", "--scratch", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "1 files (events)" in told
    assert "50 transactions" in told
    assert '→ {"type":"transaction"' in told
    assert [path.name for path in tmp_path.iterdir()] == ["history.ndjson"]


def test_a_dry_run_counts_the_time_of_a_pace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = history(tmp_path)
    words = ["--to", "stream", "--speed", "60x", "--to-time", "2026-03-03", "--dry-run", "--json"]
    assert main(["replay", source, *words]) == 0
    told = json.loads(capsys.readouterr().out)
    # Two days less the minutes before the first event, at sixty times the speed.
    assert 2_000 < told["estimated_seconds"] <= 2_880
    assert told["survey"]["rejected"] == 0


def test_a_dry_run_ends_with_1_for_rows_that_cannot_be_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        "transaction_id,event_time,card_id,merchant_id,amount,currency\n"
        "a,2026-06-01T12:00:00Z,card_1,shop_1,much,EUR\n"
        "b,2026-06-01T12:00:01Z,card_1,shop_1,12.5,EUR\n"
    )
    assert main(["replay", str(path), "--to", "features", "--dry-run"]) == 1
    assert "1 of 2 sampled rows cannot be replayed" in capsys.readouterr().out


def test_a_mistake_in_the_mapping_is_not_in_the_way_of_the_corrected_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["replay", history(tmp_path), "--to", "dataset", "o.parquet", "--scratch", "--json"]
    assert main([*words, "--map", "card_id=nope"]) == 2
    assert "nope" in capsys.readouterr().err
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["rows"] == 50
    left = {path.name for path in (tmp_path / "o.parquet.replay").rglob("*") if path.is_dir()}
    assert left == {"history"}


HEADER = "transaction_id,event_time,card_id,merchant_id,amount,currency\n"


def test_a_dry_run_decodes_more_than_the_first_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.csv"
    rows = [f"t{n},2026-06-01T12:00:{n:02d}Z,card_1,shop_1,12.5,EUR\n" for n in range(20)]
    rows[12] = rows[12].replace("12.5", "12.5123")
    path.write_text(HEADER + "".join(rows))
    assert main(["replay", str(path), "--to", "features", "--dry-run"]) == 1
    told = capsys.readouterr().out
    assert "1 of 20 events are not valid" in told
    assert f"{path}, line 14: amount: expected at most 2 decimals in EUR" in told
    assert '"amount":12.5123' in told


def test_rows_that_cannot_be_mapped_are_told_with_their_cells_and_where_all_of_them_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, labels = tmp_path / "rows.csv", tmp_path / "labels.csv"
    rows = [f"t{n},2026-06-01T12:00:{n:02d}Z,card_1,shop_1,12.5,EUR\n" for n in range(20)]
    rows[7] = rows[7].replace("12.5", "much")
    rows[8] = rows[8].replace("12.5", "12.5123")
    path.write_text(HEADER + "".join(rows))
    labels.write_text(
        "transaction_id,label_time\nt1,2026-06-02T12:00:00Z\nt2,soon\nt99,2026-06-02\n"
    )
    words = ["replay", str(path), "--labels", str(labels), "--to", "dataset", "o.parquet"]
    words.append("--scratch")
    assert main([*words, "--dry-run"]) == 1
    told = capsys.readouterr().out
    example = f'{path}, line 9: amount: found "much" as amount, expected a number such as 12.50'
    assert example in told
    assert "2 rows cannot be mapped; they are in o.parquet.replay/history/rejects.ndjson" in told
    assert "1 labels of transactions that are not in the history" in told
    kept = (tmp_path / "o.parquet.replay" / "history" / "rejects.ndjson").read_bytes()
    assert len(kept.splitlines()) == 2

    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["counts"]["unmapped"] == 2
    assert found["counts"]["unmatched_labels"] == 1
    for name, count in (("unmapped", 2), ("rejected", 1)):
        assert len(Path(found["left_out"][name]).read_bytes().splitlines()) == count

    assert main([*words, "--restart"]) == 0
    told = capsys.readouterr().out
    assert "2  rows that cannot be mapped: o.parquet.replay/history/rejects.ndjson" in told
    assert "1  not taken: no valid event: o.parquet.replay/undecodable.ndjson" in told


def test_there_is_nothing_to_resume_before_a_replay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--to", "dataset", "o.parquet", "--scratch", "--resume"]
    assert main(["replay", history(tmp_path), *words]) == 2
    assert "no o.parquet.replay/state.json" in capsys.readouterr().err


def test_an_outage_ends_with_69_and_the_way_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = {"URL": "redis://127.0.0.1:1/0", "TIMEOUT_S": "0.1", "OUTAGE_LIMIT_S": "0.4"}
    for name, value in dead.items():
        monkeypatch.setenv(f"FRAUDSTREAM_REDIS__{name}", value)
    assert main(["replay", history(tmp_path), "--to", "features"]) == 69
    error = capsys.readouterr().err
    assert "--resume" in error
    assert "Connection refused" in error
    assert (tmp_path / "replay-features.json").exists()


def test_events_that_the_engine_does_not_take_are_set_aside_and_limited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    event = orjson.loads(generate(1)[0].data)
    bad = [
        orjson.dumps(event | {"transaction_id": f"bad_{number}", "currency": "XXY"})
        for number in range(101)
    ]
    words = ["--to", "dataset", "o.parquet", "--scratch", "--json"]
    assert main(["replay", history(tmp_path, *bad[:3]), *words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["counts"]["rows"], told["counts"]["rejected"]) == (50, 3)
    lines = (tmp_path / "o.parquet.replay" / "undecodable.ndjson").read_bytes().splitlines()
    assert {orjson.loads(line)["error"] for line in lines} == {"unknown_currency"}

    assert main(["replay", history(tmp_path, *bad), *words]) == 2
    error = capsys.readouterr().err
    assert "101 of" in error
    assert "--max-rejects" in error


def test_of_an_id_that_comes_again_with_other_content_the_first_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = orjson.loads(next(each.data for each in generate(50) if each.is_transaction))
    name = first["transaction_id"]
    other = {"card_id": "other", "amount": 5}
    later = first | other | {"event_time": "2026-03-09T12:00:00Z"}
    label = {"type": "label", "transaction_id": name, "label": "fraud", "source": "analyst"}
    label["label_time"] = "2026-04-01T12:00:00Z"
    words = ["--to", "dataset", "o.parquet", "--scratch", "--json"]
    source = history(tmp_path, orjson.dumps(later), orjson.dumps(label))
    assert main(["replay", source, *words]) == 0
    counts = json.loads(capsys.readouterr().out)["counts"]
    assert (counts["rows"], counts["conflict"]) == (50, 1)
    rows = {row["transaction_id"]: row for row in pq.read_table(tmp_path / "o.parquet").to_pylist()}
    assert len(rows) == 50
    assert rows[name]["card_id"] == first["card_id"]
    assert [
        each for each in rows if rows[each]["label_time"] == datetime(2026, 4, 1, 12, tzinfo=UTC)
    ] == [name]


def test_a_selection_without_a_transaction_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--to", "dataset", "o.parquet", "--scratch", "--from-time", "2030-01-01"]
    assert main(["replay", history(tmp_path), *words]) == 2
    assert "o.parquet: rows: found none" in capsys.readouterr().err
    assert not (tmp_path / "o.parquet").exists()


def test_what_a_file_holds_cannot_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(
        b"transaction_id,event_time,card_id,merchant_id,amount,currency\n"
        b"a,2026-06-01T12:00:00Z,card_\x1b[31m1\x07,shop_1,12.5,EUR\n"
        b"b,2026-06-01T12:00:01Z,card_1,shop_1,12.5,EUR\n"
    )
    main(["replay", str(path), "--to", "features", "--dry-run"])
    told = capsys.readouterr().out
    assert "[31m1" in told
    assert not {"\x1b", "\x07"} & set(told)
    path.write_bytes(b"\x1b[2Ja,b\n1,2\n")
    assert main(["replay", str(path), "--to", "features"]) == 2
    error = capsys.readouterr().err
    assert "\x1b" not in error
    assert "\N{REPLACEMENT CHARACTER}[2Ja" in error
    assert "cannot start" not in error
