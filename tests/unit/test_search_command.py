import argparse

import orjson
import pytest
from pydantic import SecretStr

from consumer.adapters.redis.search import build_search
from consumer.document import DocumentFormat, build_document
from consumer.errors import Misconfigured
from consumer.evidence import decode_evidence
from consumer.model import Outcome, Scores
from consumer.pan import PanGuard
from consumer.query import Order, Query, Range
from consumer.search_command import (
    add_arguments,
    as_stored,
    build_query,
    cells,
    parse_range,
    parse_time,
    plain_lines,
)
from consumer.settings import Events
from tests.builders import an_assessment

NOW_MS = 1_780_315_200_000  # 2026-06-01T12:00:00Z
GUARDED = Events().pan_fields
FORM = DocumentFormat(("amount", "card_count_1h"), "f" * 64, "EUR")


def query_of(*words: str) -> Query:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return build_query(parser.parse_args(words))


def test_no_argument_asks_for_the_newest() -> None:
    assert query_of() == Query()
    assert build_search(Query())[:6] == ["FT.SEARCH", "idx:tx", "*", "SORTBY", "time", "DESC"]


def test_every_argument_becomes_a_condition() -> None:
    query = query_of(
        *("--card", "c", "--merchant", "m", "--device", "d", "--decision", "review"),
        *("--reason", "r", "--label", "fraud", "--amount", "10..20", "--fraud-score", "0.5.."),
        *("--anomaly-score", "..3", "--since", "2026-06-01T12:00:00Z", "--sort", "amount"),
        *("--ascending", "--offset", "40", "--limit", "10"),
    )
    words = build_search(query)
    assert words[2] == (
        "@card:{$card} @merchant:{$merchant} @device:{$device} @decision:{$decision} "
        "@reason:{$reason} @label:{$label} @time:[$time_low $time_high] "
        "@amount:[$amount_low $amount_high] @fraud_score:[$fraud_score_low $fraud_score_high] "
        "@anomaly_score:[$anomaly_score_low $anomaly_score_high]"
    )
    assert (query.decision, query.order) == (Outcome.REVIEW, Order.AMOUNT)
    assert query.time_ms == Range(NOW_MS, None)
    assert words[words.index("time_low") + 1] == str(NOW_MS)
    assert words[words.index("time_high") + 1] == "+inf"
    assert words[words.index("LIMIT") + 1 :][:2] == ["40", "10"]
    assert "ASC" in words


def test_a_card_number_is_searched_for_as_its_tokens() -> None:
    keys = SecretStr("k2:" + "ab" * 32 + ",k1:" + "cd" * 32)
    guard = PanGuard.of(Events(pan="hash", pan_keys=keys))
    query = as_stored(query_of("--card", "4111-1111-1111-1111"), guard, GUARDED)
    words = build_search(query)
    assert words[2] == "@card:{$card|$card_1}"
    now, before = guard.tokens("4111111111111111")
    assert words[4:8] == ["4", "card", now, "card_1"]
    assert words[8] == before
    assert as_stored(query_of("--card", "card_1"), guard, GUARDED) == Query(card="card_1")
    assert as_stored(Query(), guard, GUARDED) == Query()
    others = query_of("--merchant", "4111111111111111", "--device", "4111111111111111")
    assert as_stored(others, guard, GUARDED) == Query(
        merchant=now, device=now, former_tokens={"merchant": (before,), "device": (before,)}
    )
    # What is not looked at in events is stored as it comes.
    assert as_stored(others, guard, ("card_id",)) == others


@pytest.mark.parametrize("name", ["card", "merchant", "device"])
def test_where_card_numbers_are_refused_none_is_searched_for(name: str) -> None:
    asked = query_of(f"--{name}", "4111111111111111")
    with pytest.raises(Misconfigured, match=f"--{name}: found a card number") as caught:
        as_stored(asked, PanGuard(), GUARDED)
    assert "4111" not in str(caught.value)
    assert as_stored(asked, PanGuard(), ()) == asked
    assert as_stored(query_of("--card", "c"), PanGuard(), GUARDED) == Query(card="c")


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("100..500", Range(100, 500)),
        ("100..", Range(100, None)),
        ("..0.5", Range(None, 0.5)),
        ("12.5", Range(12.5, 12.5)),
        ("..", Range()),
    ],
)
def test_a_range_may_be_open_on_either_side(text: str, limits: Range) -> None:
    assert parse_range(text) == limits


@pytest.mark.parametrize("text", ["a..b", "1..2..3", "5..1", "nan", "inf..", "(1..2"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        parse_range(text)


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("2026-06-01T12:00:00Z", NOW_MS),
        ("2026-06-01T14:00:00.250+02:00", NOW_MS + 250),
        ("15m", NOW_MS - 900_000),
        ("7d", NOW_MS - 604_800_000),
        ("99999999999d", 0),
        ("999999d", 0),
    ],
)
def test_a_time_is_absolute_or_so_long_ago(text: str, time_ms: int) -> None:
    assert parse_time(text, NOW_MS) == time_ms


@pytest.mark.parametrize("text", ["yesterday", "2026-06-01", "2026-06-01T12:00:00", "2w", ""])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="2026-06-01T12:00:00Z"):
        parse_time(text, NOW_MS)


@pytest.mark.parametrize(
    "words", [("--limit", "0"), ("--limit", "1001"), ("--offset", "-1"), ("--decision", "deny")]
)
def test_wrong_arguments_end_with_2(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        query_of(*words)
    assert ended.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_a_row_says_the_decision_and_what_is_absent_is_a_dash() -> None:
    document = build_document(an_assessment(1, scores=Scores(None, 0.7, ("fraud:timeout",))), FORM)
    assert cells(decode_evidence(document)) == (
        *("2026-06-01T12:00:01.000Z", "tx_1", "card_1", "merchant_1", "12.5 EUR"),
        *("approve", "-", "-", "0.700", "-"),
    )


def test_a_row_cannot_steer_the_terminal() -> None:
    fields = orjson.loads(build_document(an_assessment(1), FORM))
    fields["transaction"]["merchant_id"] = "m\x1b[2J\nx"
    assert cells(decode_evidence(orjson.dumps(fields)))[3] == "m\\x1b[2J\\nx"


def test_plain_columns_are_aligned_without_trailing_space() -> None:
    assert plain_lines([("a", "long"), ("bcd", "e")]) == ["a    long", "bcd  e"]
