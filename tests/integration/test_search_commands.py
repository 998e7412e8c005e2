"""``search`` and ``show`` as a person runs them, on a real server with JSON and Search."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from consumer.__main__ import EX_MISCONFIGURED, main
from consumer.adapters.redis.connection import connect
from consumer.adapters.redis.documents import RedisDocuments
from consumer.document import DocumentFormat
from consumer.local.redis_server import RedisServer
from consumer.model import Decision, Outcome, Scores
from tests.builders import a_label, a_transaction, an_assessment

FORM = DocumentFormat(("amount", "card_count_1h"), "f" * 64, "EUR")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with thirty decisions: every fifth declined, every seventh without fraud score."""
    with RedisServer(directory=tmp_path_factory.mktemp("redis")) as server:
        with closing(connect(server.url, connect_timeout_s=2, timeout_s=5)) as client:
            documents = RedisDocuments(client, form=FORM, ttl_s=3600, alerts_max_length=10)
            documents.prepare()
            for n in range(30):
                declined = Decision(Outcome.DECLINE, ("fraud_score_high",))
                documents.decide(
                    [
                        an_assessment(
                            n,
                            transaction=a_transaction(
                                n, card_id=f"card_{n % 3}", base_amount_minor=n * 100
                            ),
                            scores=Scores(None if n % 7 == 0 else n / 30, n / 10),
                            decision=declined if n % 5 == 0 else Decision(Outcome.APPROVE, ()),
                        )
                    ]
                )
            documents.label([a_label(5)])
        yield server.url


@pytest.fixture(autouse=True)
def _settings(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FRAUDSTREAM_REDIS__URL", address)


def searched(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert main(["search", "--json", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    return [orjson.loads(line)["transaction_id"] for line in lines]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--limit", "3"], [29, 28, 27]),
        (["--limit", "2", "--offset", "3"], [26, 25]),
        (["--ascending", "--limit", "2"], [0, 1]),
        (["--card", "card_1", "--limit", "2"], [28, 25]),
        (["--decision", "decline"], [25, 20, 15, 10, 5, 0]),
        (["--reason", "fraud_score_high", "--card", "card_1"], [25, 10]),
        (["--label", "fraud"], [5]),
        (["--amount", "27.."], [29, 28, 27]),
        (["--amount", "3..4"], [4, 3]),
        (["--fraud-score", "0.9.."], [29, 27]),
        (["--anomaly-score", "..0.15"], [1, 0]),
        (["--since", "2026-06-01T12:00:28Z"], [29, 28]),
        (["--until", "2026-06-01T12:00:01Z"], [1, 0]),
        (["--sort", "fraud_score", "--limit", "2"], [29, 27]),
        (["--sort", "fraud_score", "--ascending", "--limit", "2"], [1, 2]),
        (["--sort", "amount", "--limit", "2"], [29, 28]),
        (["--card", "card_1*"], []),
        (["--card", "*"], []),
    ],
)
def test_a_search_finds_what_it_says(
    words: list[str], expected: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert searched(capsys, *words) == [f"tx_{n}" for n in expected]


def test_pages_together_are_everything_once(capsys: pytest.CaptureFixture[str]) -> None:
    pages = [
        searched(capsys, "--limit", "7", "--offset", str(offset)) for offset in range(0, 35, 7)
    ]
    assert [each for page in pages for each in page] == [f"tx_{n}" for n in range(29, -1, -1)]


def test_the_columns_are_plain_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--limit", "2"]) == 0
    said = capsys.readouterr()
    head, first, _ = said.out.splitlines()
    assert head.split()[:3] == ["time", "transaction_id", "card"]
    assert first.split()[:4] == ["2026-06-01T12:00:29.000Z", "tx_29", "card_2", "merchant_1"]
    assert said.err == "1 to 2 of 30; more with --offset 2\n"


def test_nothing_found_is_said_and_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--card", "nobody"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "nothing found\n")


def test_an_empty_text_is_a_wrong_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--card", ""]) == 2
    assert "--card" in capsys.readouterr().err


def test_a_server_without_the_index_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with RedisServer(directory=tmp_path / "empty") as server:
        monkeypatch.setenv("FRAUDSTREAM_REDIS__URL", server.url)
        assert main(["search"]) == 69
    assert "the daemon makes it when it first starts" in capsys.readouterr().err


def test_show_tells_a_decision(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "tx_5"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("tx_5: DECLINE\n")
    assert "fraud, by chargeback" in out


@pytest.mark.parametrize(
    "words",
    [
        ["show", "4111111111111111"],
        ["search", "--merchant", "4111-1111-1111-1111"],
        ["search", "4111 1111 1111 1111"],
        ["search", "--since", "4111111111111111"],
    ],
)
def test_no_card_number_is_asked_for_nor_repeated(
    words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(words)
    except SystemExit as ended:
        code = int(str(ended.code))
    assert code == EX_MISCONFIGURED
    out, err = capfd.readouterr()
    assert "1111" not in out + err
    assert "a card number" in err or "[pan]" in err


def test_show_asks_for_an_id_that_may_be_stored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FRAUDSTREAM_EVENTS__PAN_FIELDS", '["card_id"]')
    assert main(["show", "4111111111111111"]) == 1
    assert "no document of 4111111111111111" in capsys.readouterr().err


def test_show_as_json_is_the_stored_document(
    address: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["show", "tx_5", "--json"]) == 0
    with closing(connect(address, connect_timeout_s=2, timeout_s=5)) as client:
        stored = client.execute_command("JSON.GET", "tx:tx_5")  # type: ignore[no-untyped-call]
    assert capsysbinary.readouterr().out == stored + b"\n"


def test_an_unknown_id_ends_with_1_and_says_where_to_look(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["show", "tx_nobody"]) == 1
    err = capsys.readouterr().err
    for part in ("tx_nobody", "48 h", "redis.document_ttl_s", "fraudstream-decisions"):
        assert part in err
