"""Reports from files to files: what is read, what is refused, what is written."""

import csv
import gzip
import re
from io import StringIO
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from consumer.__main__ import main
from consumer.document import DocumentFormat, build_document
from consumer.errors import Misconfigured
from consumer.evaluation.decisions import Unlabelled
from consumer.evaluation.reporting import Request, write_report
from consumer.evaluation.wording import ABSENT, key_figures
from consumer.model import Bands, Decision, Outcome, Scores
from consumer.row import build_row
from tests.builders import an_assessment
from tests.emulated_s3 import emulated_s3
from tests.generated_decisions import draw_decisions, write_decisions, write_latencies

COUNT = 1500
FORM = DocumentFormat(feature_names=("amount", "count"), feature_hash="f" * 64, base_currency="EUR")


@pytest.fixture(scope="module")
def columns() -> dict[str, list[Any]]:
    return draw_decisions(COUNT, days=5)


@pytest.fixture
def decisions(tmp_path: Path, columns: dict[str, list[Any]]) -> Path:
    return write_decisions(tmp_path / "decisions.parquet", columns)


def figures_of(*places: Path | str, **asked: Any) -> dict[str, Any]:
    request = Request(decisions=places, out=None, currency="EUR", resamples=5, **asked)
    return write_report(request).figures


def refused(*places: Path | str, **asked: Any) -> str:
    with pytest.raises(Misconfigured) as caught:
        figures_of(*places, **asked)
    return str(caught.value)


def to_lines(columns: dict[str, list[Any]]) -> list[bytes]:
    """The rows as Firehose writes them: times as text, labels and bands of later left out."""
    names = [name for name in columns if name != "fraud"]
    rows = zip(*(columns[name] for name in names), strict=True)
    lines = []
    for values in rows:
        row = dict(zip(names, values, strict=True))
        for name in ("event_time", "received_time", "decided_time"):
            row[name] = row[name].strftime("%Y-%m-%d %H:%M:%S.000")
        lines.append(orjson.dumps({**row, "f_amount": 1.0}) + b"\n")
    return lines


def write_labels(path: Path, columns: dict[str, list[Any]]) -> Path:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["transaction_id", "label"])
        for name, fraud in zip(columns["transaction_id"], columns["fraud"], strict=True):
            if fraud is not None:
                table.writerow([name, "fraud" if fraud else "legitimate"])
    return path


def test_both_files_are_written_and_equal_input_gives_equal_bytes(
    tmp_path: Path, decisions: Path
) -> None:
    written = []
    for name in ("one", "two"):
        report = write_report(Request(decisions=[decisions], out=tmp_path / name, currency="EUR"))
        assert report.json_path is not None
        assert report.page_path is not None
        written.append((report.json_path.read_bytes(), report.page_path.read_bytes()))
    assert written[0] == written[1]
    told = orjson.loads(written[0][0])
    assert (told["format"], told["version"], told["input"]["transactions"]) == (
        "fraudstream-report",
        1,
        COUNT,
    )
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        "report.html",
        "report.json",
    ]


def test_the_page_needs_nothing_else(tmp_path: Path, decisions: Path) -> None:
    report = write_report(Request(decisions=[decisions], out=tmp_path / "out", currency="EUR"))
    assert report.page_path is not None
    page = report.page_path.read_text("utf-8")
    assert re.findall(r"<script|<img|@import|url\((?!#)|\bsrc=", page) == []
    addresses = set(re.findall(r'(?:href|src)="([^"]*)"', page))
    assert {each for each in addresses if not each.startswith("#")} == {"data:,"}
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_what_firehose_wrote_gives_the_figures_of_the_replay(
    tmp_path: Path, columns: dict[str, list[Any]], decisions: Path
) -> None:
    lines = to_lines(columns)
    folder = tmp_path / "firehose" / "2026" / "06" / "01"
    folder.mkdir(parents=True)
    # Several rows packed behind one another; names without a suffix; one object gzipped, and
    # rows that Firehose delivered twice.
    (folder / "decisions-1-2026-06-01-00-00-00-aa").write_bytes(b"".join(lines[:700]))
    (folder / "decisions-1-2026-06-01-01-00-00-bb.gz").write_bytes(
        gzip.compress(b"".join(lines[600:]))
    )
    labels = write_labels(tmp_path / "labels.csv", columns)

    found = figures_of(tmp_path / "firehose", labels=[labels])
    expected = figures_of(decisions)

    assert found["input"].pop("repeated") == 100
    assert expected["input"].pop("repeated") == 0
    for told in (found, expected):
        told.pop("notes")
        told.pop("bands")
        told["degraded"].pop("causes")
        told["input"].pop("files")
    assert found == expected


def test_rows_of_this_package_are_read_with_all_they_say(tmp_path: Path) -> None:
    bands = Bands(0.4, 0.9, 1.7, "settings", "settings")
    rows = [
        build_row(
            build_document(
                an_assessment(
                    number,
                    scores=Scores(0.95, None, ("anomaly:timeout",)),
                    decision=Decision(Outcome.DECLINE, ("fraud_score_high",), bands=bands),
                ),
                FORM,
            )
        )
        for number in range(5)
    ]
    path = tmp_path / "rows.ndjson"
    path.write_bytes(b"".join(rows))
    found = figures_of(path)
    assert found["bands"] == [
        {
            "thresholds": {"fraud_review": 0.4, "fraud_decline": 0.9, "anomaly_review": 1.7},
            "decisions": 5,
        }
    ]
    assert found["outcomes"]["declined"]["flagged"] == 5
    assert found["degraded"] == {"decisions": 5, "share": 1.0, "causes": {"anomaly:timeout": 5}}
    assert found["scores"]["anomaly"]["absent"] == 5
    assert found["latency"]["percentiles"]["p50"] == 5.0
    assert found["latency"]["of"] == "from receiving a record to its decision"
    assert "No decision has an anomaly score." in found["notes"]


def test_latencies_of_a_replay_stand_in_the_file_beside_it(decisions: Path) -> None:
    assert figures_of(decisions)["latency"] is None
    write_latencies(decisions, COUNT)
    told = figures_of(decisions)["latency"]
    assert (told["rows"], told["of"]) == (COUNT, "from dispatch to decision of its chunk")
    assert figures_of(decisions.parent)["latency"] == told


def test_of_several_labels_the_newest_wins(tmp_path: Path, decisions: Path) -> None:
    events = [
        ("tx_0", "fraud", "2026-06-03T00:00:00Z"),
        ("tx_0", "legitimate", "2026-06-02T00:00:00Z"),
        ("tx_1", "fraud", "2026-06-02T00:00:00Z"),
        ("tx_1", "legitimate", "2026-06-02T00:00:00Z"),
        ("elsewhere", "fraud", "2026-06-02T00:00:00Z"),
    ]
    path = tmp_path / "labels.ndjson.gz"
    lines = [
        orjson.dumps({"type": "label", "transaction_id": i, "label": w, "label_time": t})
        for i, w, t in events
    ]
    lines.append(orjson.dumps({"type": "transaction", "transaction_id": "tx_3"}))
    path.write_bytes(gzip.compress(b"\n".join(lines)))
    plain = write_decisions(tmp_path / "plain.parquet", draw_decisions(COUNT, days=5), fraud=None)
    found = figures_of(plain, labels=[path], unlabelled="leave_out")["input"]
    assert (found["frauds"], found["legitimate"], found["unlabelled"]) == (1, 1, COUNT - 2)


@pytest.mark.parametrize("unlabelled", ["legitimate", "leave_out"])
def test_a_few_labels_of_honest_payments_do_not_make_all_that_was_flagged_fraud(
    tmp_path: Path, columns: dict[str, list[Any]], unlabelled: Unlabelled
) -> None:
    fraud = [each or None for each in columns["fraud"]]
    honest = columns["decision"].index("approve", 5)
    fraud[honest] = False
    path = write_decisions(tmp_path / "few.parquet", columns, fraud=fraud)
    request = Request(
        decisions=[path], out=None, currency="EUR", unlabelled=unlabelled, resamples=5
    )
    report = write_report(request)
    tiles = {tile.name: tile for tile in key_figures(report.told)}
    flagged = report.told.outcomes.flagged
    frauds = sum(
        1
        for each, outcome in zip(fraud, columns["decision"], strict=True)
        if each and outcome != "approve"
    )
    assert flagged.frauds == frauds < flagged.flagged
    assert flagged.unlabelled == flagged.flagged - frauds
    if unlabelled == "legitimate":
        assert flagged.precision == frauds / flagged.flagged
        tile = tiles["of what was flagged is fraud"]
        assert f"{frauds} of {flagged.flagged} flagged are known frauds" in tile.meaning
        assert report.told.outcomes.declined.money_wrong > 0
    else:
        assert tiles["flagged are known frauds"].value == f"{frauds} of {flagged.flagged}"
        assert not any("precision" in name or "AUC" in name for name in tiles)
        assert "EUR blocked wrongly, as far as is known" in tiles
        assert any("nobody chose by chance" in note for note in report.told.notes)


def test_percentiles_that_lie_together_are_written_as_one_text(
    tmp_path: Path, columns: dict[str, list[Any]]
) -> None:
    path = write_decisions(tmp_path / "decisions.parquet", columns)
    chunks = pa.table({"rows": [700, 700, 75, 25], "latency_ms": [10.0, 800.0, 3_200.0, 3_250.0]})
    pq.write_table(chunks, tmp_path / "decisions.latency.parquet")
    report = write_report(Request(decisions=[path], out=tmp_path / "out", currency="EUR"))
    assert report.page_path is not None
    page = report.page_path.read_text("utf-8")
    assert "p95 3,200, p99 3,250" in page
    # A chunk's time is nobody's waiting time.
    assert not any("99 of 100" in tile.name for tile in key_figures(report.told))


def test_no_figure_and_no_head_is_cut_on_a_narrow_terminal(decisions: Path) -> None:
    console = Console(width=80, record=True, file=StringIO())
    write_report(Request(decisions=[decisions], out=None, currency="EUR")).print(console)
    shown = console.export_text()
    assert "precision" in shown
    assert "large_amount@2" in shown
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_where_no_fraud_is_known_silence_says_nothing(
    tmp_path: Path, columns: dict[str, list[Any]]
) -> None:
    path = write_decisions(tmp_path / "plain.parquet", columns, fraud=None)
    assert figures_of(path)["input"]["unlabelled"] == COUNT


def test_a_parquet_of_frauds_alone_can_say_that_the_rest_is_legitimate(
    tmp_path: Path, columns: dict[str, list[Any]]
) -> None:
    plain = write_decisions(tmp_path / "plain.parquet", columns, fraud=None)
    frauds = tmp_path / "frauds.parquet"
    table = pa.table({"transaction_id": ["tx_1", "tx_2"], "fraud": [True, True]})
    pq.write_table(table, frauds)
    alone = figures_of(plain, labels=[frauds], unlabelled="leave_out")
    rest = figures_of(plain, labels=[frauds])
    assert alone["scores"]["fraud"]["ranking"]["roc_auc"] is None
    assert any("All labelled transactions are frauds" in note for note in alone["notes"])
    assert rest["input"]["legitimate"] == rest["input"]["assumed_legitimate"] == COUNT - 2
    assert any("count as legitimate" in note for note in rest["notes"])
    assert rest["scores"]["fraud"]["ranking"]["roc_auc"] is not None


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"fraud": None}, "No transaction has a label"),
        ({"fraud": [False] * COUNT}, "None of the labelled transactions is a fraud"),
        ({"fraud": [True] * COUNT}, "All labelled transactions are frauds"),
        ({"fraud": [True] + [False] * (COUNT - 1)}, "Only 1 frauds"),
        ({"fraud_score": [None] * COUNT}, "No decision has a fraud score."),
        ({"fraud_score": None, "anomaly_score": None}, "No decision has an anomaly score."),
        ({"fraud_score": [float("nan")] * COUNT}, "No decision has a fraud score."),
        ({"fraud_score": [7.0] * COUNT}, "outside 0 to 1 are no probabilities"),
    ],
    ids=lambda told: told if isinstance(told, str) else "",
)
def test_what_is_missing_is_said_and_the_rest_is_still_reported(
    tmp_path: Path, columns: dict[str, list[Any]], changes: dict[str, Any], note: str
) -> None:
    path = write_decisions(tmp_path / "some.parquet", columns, **changes)
    report = write_report(Request(decisions=[path], out=tmp_path / "out", currency="EUR"))
    assert any(note in told for told in report.told.notes), report.told.notes
    assert report.page_path is not None
    assert note in report.page_path.read_text("utf-8")


def test_without_labels_nothing_is_called_zero_that_is_unknown(
    tmp_path: Path, columns: dict[str, list[Any]]
) -> None:
    path = write_decisions(tmp_path / "plain.parquet", columns, fraud=None)
    told = write_report(Request(decisions=[path], out=None, currency="EUR")).told
    unknown = {tile.name for tile in key_figures(told) if tile.value == ABSENT}
    assert unknown == {
        "of the fraud money caught",
        "of the frauds caught",
        "of what was flagged is fraud",
        "EUR blocked wrongly",
    }


def test_a_single_decision_is_reported_too(tmp_path: Path, columns: dict[str, list[Any]]) -> None:
    one = {name: values[:1] for name, values in columns.items()}
    path = write_decisions(tmp_path / "one.parquet", one)
    report = write_report(Request(decisions=[path], out=tmp_path / "out", currency="EUR"))
    assert report.told.input.transactions == 1


def test_names_from_outside_cannot_leave_their_place_in_the_page(
    tmp_path: Path, columns: dict[str, list[Any]], decisions: Path
) -> None:
    evil = "<script>alert(1)</script>"
    path = write_decisions(tmp_path / "evil.parquet", columns, rules=[[evil]] * COUNT)
    request = Request([path], tmp_path / "out", "EUR", challengers={evil: [decisions]}, resamples=2)
    report = write_report(request)
    assert report.page_path is not None
    page = report.page_path.read_text("utf-8")
    assert evil not in page
    assert "&lt;script&gt;" in page


def test_each_trouble_with_files_is_told_with_its_place(
    tmp_path: Path, columns: dict[str, list[Any]], decisions: Path
) -> None:
    assert "nothing there" in refused(tmp_path / "absent.parquet")
    assert "nothing there" in refused(tmp_path / "*.none")
    (tmp_path / "empty").mkdir()
    assert "an empty folder" in refused(tmp_path / "empty")
    broken = tmp_path / "broken.ndjson"
    broken.write_bytes(to_lines(columns)[0] + b"{not json\n")
    assert f"{broken}: line 2" in refused(broken)
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(decisions.read_bytes()[:5000])
    assert f"{cut}: content" in refused(cut)
    bare = write_decisions(tmp_path / "bare.parquet", columns, decision=None)
    assert f"{bare}: columns: found no decision" in refused(bare)
    odd = write_decisions(tmp_path / "odd.parquet", columns, decision=["perhaps"] * COUNT)
    assert f"{odd}: decision: found 'perhaps'" in refused(odd)
    poor = write_decisions(tmp_path / "poor.parquet", columns, base_amount=[None] * COUNT)
    assert f"{poor}: rows 1 on, base_amount" in refused(poor)
    nothing = write_decisions(tmp_path / "nothing.parquet", {name: [] for name in columns})
    assert "no row in 1 files" in refused(nothing)


def test_each_trouble_with_labels_is_told_with_its_place(tmp_path: Path, decisions: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("id,label\n1,fraud\n")
    assert f"{labels}: header: found id, label" in refused(decisions, labels=[labels])
    labels.write_text("transaction_id,label\ntx_1,maybe\n")
    assert f"{labels}: label: found 'maybe'" in refused(decisions, labels=[labels])
    labels.write_text("transaction_id,label,label_time\ntx_1,fraud,yesterday\n")
    assert f"{labels}: label_time" in refused(decisions, labels=[labels])
    labels.write_text("transaction_id,label\n")
    assert "--labels: found no label" in refused(decisions, labels=[labels])


def test_the_command_writes_prints_and_compares(
    tmp_path: Path, decisions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_decisions(tmp_path / "other.parquet", draw_decisions(COUNT, days=5, skill=2.6))
    out = tmp_path / "out"
    words = ["report", str(decisions), "--out", str(out), "--challenger", f"better={other}"]
    assert main([*words, "--resamples", "5", "--cards", "10"]) == 0
    told = capsys.readouterr().out
    assert "average precision, fraud score" in told
    assert "large_amount@2" in told
    assert f"challenger better, {COUNT:,} pairs" in told
    assert main([*words, "--resamples", "5", "--cards", "10", "--json"]) == 0
    assert capsys.readouterr().out.encode() == (out / "report.json").read_bytes()
    figures = orjson.loads((out / "report.json").read_bytes())
    area = figures["challengers"][0]["figures"]["fraud.average_precision"]
    assert area["difference"] > 0
    assert area["low"] <= area["difference"] <= area["high"]
    assert [each["k"] for each in figures["scores"]["fraud"]["card_precision"]] == [5, 10, 20]


def test_the_command_refuses_two_challengers_of_one_name(
    decisions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["report", str(decisions), "--challenger", str(decisions)]
    assert main([*words, "--challenger", str(decisions)]) == 2
    assert "another name for each" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, decisions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["report", str(decisions), "--out", str(tmp_path / "file" / "out")]) == 2
    assert "--out" in capsys.readouterr().err


def test_decisions_and_labels_may_lie_in_s3(
    tmp_path: Path,
    columns: dict[str, list[Any]],
    decisions: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_latencies(decisions, COUNT)
    lines = to_lines(columns)
    labels = write_labels(tmp_path / "labels.csv", columns).read_bytes()
    with emulated_s3() as client:
        client.create_bucket(Bucket="history")
        beside = (decisions, decisions.with_name("decisions.latency.parquet"))
        for path in beside:
            client.put_object(Bucket="history", Key=f"replay/{path.name}", Body=path.read_bytes())
        for hour, part in (("00", lines[:700]), ("01", lines[700:])):
            key = f"firehose/2026/06/01/{hour}/decisions-1"
            client.put_object(Bucket="history", Key=key, Body=b"".join(part))
        client.put_object(Bucket="history", Key="labels.csv", Body=labels)
        monkeypatch.setenv("FRAUDSTREAM_AWS__ENDPOINT_URL", client.meta.endpoint_url)
        words = ["--out", str(tmp_path / "out"), "--json"]
        assert main(["report", "s3://history/replay/", *words]) == 0
        replayed = orjson.loads(capsys.readouterr().out)
        words += ["--labels", "s3://history/labels.csv"]
        assert main(["report", "s3://history/firehose/", *words]) == 0
        live = orjson.loads(capsys.readouterr().out)
        assert main(["report", "s3://history/elsewhere/", *words]) == 2
    assert "s3://history/elsewhere/" in capsys.readouterr().err
    assert replayed["latency"]["rows"] == COUNT
    assert live["scores"] == replayed["scores"]
    assert live["input"]["files"] == 2
