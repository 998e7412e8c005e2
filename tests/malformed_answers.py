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
from tests.rest_service import Service, an_event, running_service, stub_aws

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


def _event(what: str, **changes: object) -> Malformed:
    return Malformed(what, "POST", _ONE, orjson.dumps(an_event("malformed_1") | changes))


def _body(what: str, body: bytes, path: str = _ONE, **headers: str) -> Malformed:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Malformed(what, "POST", path, body, named)


def _get(what: str, path: str) -> Malformed:
    return Malformed(what, "GET", path)


def build_malformed() -> list[Malformed]:
    """Every request of the table."""
    event = orjson.dumps(an_event("malformed_2"))
    twice = event[:-1] + b',"card_id":"card_2"}'
    without = {name: value for name, value in an_event("malformed_3").items() if name != "card_id"}
    deep = b'{"type":' * 40 + b"1" + b"}" * 40
    many = orjson.dumps({"transactions": [{}] * 501})
    return [
        _body("no JSON", b"{"),
        _body("no UTF-8", b'{"type":"\xff"}'),
        _body("another type of body", b"a=b", Content_Type="application/x-www-form-urlencoded"),
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
        _body("a field twice", twice),
        _body("a missing field", orjson.dumps(without)),
        _event("an unknown field", colour="red"),
        _event("an amount with too many decimals", amount="1.234"),
        _event("a negative amount", amount=-1),
        _event("an unknown currency", currency="EUX"),
        _event("a foreign currency without `base_amount`", currency="USD"),
        _event("a time without an offset", event_time="2026-06-01T12:00:00"),
        _event("a card number for a token", card_id=_CARD),
        _event("a card number as transaction_id", transaction_id=_CARD),
        _event("an id with other characters", merchant_id="a b"),
        _body(
            "a label where a transaction belongs",
            orjson.dumps(
                {
                    "type": "label",
                    "transaction_id": "x",
                    "label": "fraud",
                    "source": "analyst",
                    "label_time": "2026-06-01T12:00:00Z",
                }
            ),
        ),
        _body("501 transactions", many, _MANY),
        _body("no transactions", b'{"transactions":[]}', _MANY),
        _body("another body for a batch", b"[]", _MANY),
        _body("a word for dry_run", event, f"{_ONE}?dry_run=perhaps"),
        _body("an unknown parameter", event, f"{_ONE}?dryrun=true"),
        _get("a parameter twice", "/v1/transactions?card=a&card=b"),
        _get("a limit beyond 200", "/v1/transactions?limit=201"),
        _get("a cursor of something else", "/v1/transactions?cursor=AAAA"),
        _get("a card number to search for", f"/v1/transactions?card={_CARD}"),
        _get("an unknown transaction", "/v1/transactions/tx_404"),
        _get("an unknown kind of entity", "/v1/entities/planet/1"),
        _get("an unknown path", "/v2/predictions"),
        Malformed("another method", "DELETE", _ONE),
    ]


def render_table(service: Service) -> str:
    """One row a request: what is wrong, the status, its type and the fields that are named."""
    rows = ["| request | answer | type | names |", "|---|---|---|---|"]
    for each in build_malformed():
        answer = service.send(each.method, each.path, each.body, headers=each.headers)
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
