"""
The table of malformed requests in docs/rest.md: ``python -m tests.malformed_answers`` writes it.

Each row is the answer of a real service to a request that is signed as it should be and otherwise
wrong.
"""

import gzip
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from consumer.local.redis_server import RedisServer
from tests.rest_service import (
    Answer,
    Service,
    an_event,
    parse_answer,
    running_service,
    stub_aws,
)

PAGE = Path(__file__).parents[1] / "docs" / "rest.md"
BEGIN, END = "<!-- malformed requests: begin -->\n", "<!-- malformed requests: end -->"
_CARD = "4111111111111111"
_ONE, _MANY = "/v1/predictions", "/v1/predictions:batch"


@dataclass(frozen=True)
class Malformed:
    """A request, and what is wrong with it."""

    what: str
    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    wire: bytes = b""
    """What is sent as it is, in place of all that."""


def _event(what: str, **changes: object) -> Malformed:
    return Malformed(what, "POST", _ONE, orjson.dumps(an_event("malformed_1") | changes))


def _body(what: str, body: bytes, path: str = _ONE, **headers: str) -> Malformed:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Malformed(what, "POST", path, body, named)


def _get(what: str, path: str) -> Malformed:
    return Malformed(what, "GET", path)


def _wire(what: str, sent: bytes) -> Malformed:
    return Malformed(what, "", "", wire=sent)


def build_malformed() -> list[Malformed]:
    """Every request of the table."""
    return [*_bodies(), *_events(), *_batches(), *_paths(), *_wires()]


def _bodies() -> list[Malformed]:
    event = orjson.dumps(an_event("malformed_2"))
    deep = b'{"type":' * 40 + b"1" + b"}" * 40
    return [
        _body("no JSON", b"{"),
        _body("no UTF-8", b'{"type":"\xff"}'),
        _body("two documents", event + event),
        _body("NaN for a number", event.replace(b'"12.50"', b"NaN")),
        _body("something behind a byte order mark", b"\xef\xbb\xbf" + event),
        _body("half of a pair of surrogates", event.replace(b"merchant_1", b"\\ud800")),
        _body("another type of body", b"a=b", Content_Type="application/x-www-form-urlencoded"),
        _body("another charset", event, Content_Type="application/json; charset=latin-1"),
        _body("an unknown compression", event, Content_Encoding="br"),
        _body("a broken compression", b"\x1f\x8bnothing", Content_Encoding="gzip"),
        _body("a large event", event[:-1] + b" " * 70_000 + b"}"),
        _body(
            "a small body that unpacks to a large one",
            gzip.compress(b" " * 9_000_000),
            _MANY,
            Content_Encoding="gzip",
        ),
        _body("deep nesting", deep),
        _body("a list for an event", b"[]"),
        _body("a field twice", event[:-1] + b',"card_id":"card_2"}'),
        _body("a field twice, once disguised", event[:-1] + b',"c\\u0061rd_id":"card_2"}'),
        _body("a word for dry_run", event, f"{_ONE}?dry_run=perhaps"),
        _body("an unknown parameter", event, f"{_ONE}?dryrun=true"),
    ]


def _events() -> list[Malformed]:
    without = {name: value for name, value in an_event("malformed_3").items() if name != "card_id"}
    label = {
        "type": "label",
        "transaction_id": "x",
        "label": "fraud",
        "source": "analyst",
        "label_time": "2026-06-01T12:00:00Z",
    }
    huge = orjson.dumps(an_event("malformed_4")).replace(b'"12.50"', b"9" * 5_000)
    return [
        _body("a missing field", orjson.dumps(without)),
        _event("an unknown field", colour="red"),
        _event("an amount with too many decimals", amount="1.234"),
        _event("a negative amount", amount=-1),
        _event("an amount of another script", amount="\u0661\u0662"),
        _event("an amount beyond all", amount="1e400"),
        _body("an amount of 5,000 digits", huge),
        _event("an unknown currency", currency="EUX"),
        _event("a foreign currency without `base_amount`", currency="USD"),
        _event("a latitude that is none", latitude=91, longitude=0),
        _event("a time without an offset", event_time="2026-06-01T12:00:00"),
        _event("a time that is none", event_time="2026-02-30T12:00:00Z"),
        _event("a time in the year 9999", event_time="9999-12-31T23:59:59Z"),
        _event("a card number for a token", card_id=_CARD),
        _event("a card number as transaction_id", transaction_id=_CARD),
        _event("a card number as the name of a field", **{_CARD: 1}),
        _event("an id with other characters", merchant_id="a b"),
        _event("an id with a line break", merchant_id="a\n"),
        _event("an id of 65 characters", merchant_id="a" * 65),
        _event("a number for an id", card_id=1),
        _event("nothing for an id", card_id=None),
        _body("a label where a transaction belongs", orjson.dumps(label)),
        _body(
            "a transaction where a label belongs",
            orjson.dumps(an_event("malformed_5")),
            "/v1/labels",
        ),
        _body(
            "a label of another value",
            orjson.dumps(label | {"label": "perhaps"}),
            "/v1/labels",
        ),
    ]


def _batches() -> list[Malformed]:
    return [
        _body("501 transactions", orjson.dumps({"transactions": [{}] * 501}), _MANY),
        _body("no transactions", b'{"transactions":[]}', _MANY),
        _body("another body for a batch", b"[]", _MANY),
        _body("transactions twice", b'{"transactions":[],"transactions":[{}]}', _MANY),
        _body("something beside transactions", b'{"transactions":[{}],"dry_run":true}', _MANY),
    ]


def _paths() -> list[Malformed]:
    return [
        _get("a parameter twice", "/v1/transactions?card=a&card=b"),
        _get("a parameter that is no UTF-8", "/v1/transactions?card=%FF"),
        _get("a limit beyond 200", "/v1/transactions?limit=201"),
        _get("an amount that is none", "/v1/transactions?amount_min=NaN"),
        _get("a cursor of something else", "/v1/transactions?cursor=AAAA"),
        _get("a cursor of alerts that none gave", "/v1/alerts?cursor=x"),
        _get("a card number to search for", f"/v1/transactions?card={_CARD}"),
        _get("a card number in a path", f"/v1/entities/card/{_CARD}"),
        _get("an unknown transaction", "/v1/transactions/tx_404"),
        _get("a NUL in an id", "/v1/transactions/a%00b"),
        _get("a slash in an id", "/v1/transactions/a%2Fb"),
        _get("an id of 257 characters", f"/v1/transactions/{'a' * 257}"),
        _get("an unknown kind of entity", "/v1/entities/planet/1"),
        _get("an unknown path", "/v2/predictions"),
        _get("a slash behind a path", "/v1/rules/"),
        Malformed("another method", "DELETE", _ONE),
        Malformed("OPTIONS", "OPTIONS", _ONE),
    ]


def _wires() -> list[Malformed]:
    post = b"POST /v1/labels HTTP/1.1\r\nHost: x\r\n"
    return [
        _wire("TLS where there is none", b"\x16\x03\x01\x02\x00\x01\x00"),
        _wire("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        _wire("an unknown method", b"FETCH / HTTP/1.1\r\nHost: x\r\n\r\n"),
        _wire("bare line feeds", b"GET /healthz HTTP/1.1\nHost: x\n\n"),
        _wire("a path of another script", "GET /\u00e4 HTTP/1.1\r\nHost: x\r\n\r\n".encode()),
        _wire("two lengths", post + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n"),
        _wire("a negative length", post + b"Content-Length: -1\r\n\r\n"),
        _wire(
            "a length beside chunks",
            post + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        _wire(
            "headers beyond 64 KB",
            b"GET / HTTP/1.1\r\n" + (b"a: %s\r\n" % (b"b" * 60)) * 1_200 + b"\r\n",
        ),
    ]


def _send(service: Service, each: Malformed) -> Answer:
    if each.wire:
        return parse_answer(service.exchange(each.wire))
    return service.send(each.method, each.path, each.body, headers=each.headers)


def render_table(service: Service) -> str:
    """One row a request: what is wrong, the status, its type and the fields that are named."""
    rows = ["| request | answer | type | names |", "|---|---|---|---|"]
    for each in build_malformed():
        answer = _send(service, each)
        problem = answer.fields
        kind = str(problem["type"]).rpartition(":")[2]
        names = [f"`{error['field']}`: {error['expected']}" for error in problem.get("errors", ())]
        shown = "; ".join(names).replace("|", "\\|") or problem.get("detail", "")
        rows.append(f"| {each.what} | {answer.status} | `{kind}` | {shown} |")
    return "\n".join(rows) + "\n"


def shown_table() -> str:
    """The table as the page has it."""
    return PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]


def main() -> None:
    """Write the table into the page."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            RedisServer(directory=folder) as redis,
            stub_aws(folder) as aws,
            running_service(folder / "serve", {"REDIS__URL": redis.url, **aws}) as service,
        ):
            table = render_table(service)
    head, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    PAGE.write_text(head + BEGIN + table + END + rest.partition(END)[2], "utf-8")


if __name__ == "__main__":
    main()
