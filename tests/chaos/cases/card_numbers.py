"""Card numbers where none may be, and workers that die; all that is left is searched for them."""

import gzip
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import orjson

from consumer.adapters.redis.connection import command
from consumer.metrics import DEAD_LETTERS
from tests.chaos.arena import Arena
from tests.chaos.faults import Act, Fault, Port, When
from tests.chaos.reading import ScrapedMetrics
from tests.chaos.registry import case
from tests.chaos.traffic import PLAIN, Item, build_traffic

_CARDS = ("4929420573595709", "5555555555554444", "378282246310005")
_IDENTIFIERS = ("transaction_id", "card_id", "merchant_id", "terminal_id", "device_id")


def _forms(card: str) -> Sequence[str]:
    groups = (card[:4], card[4:8], card[8:12], card[12:])
    return [sign.join(groups) for sign in ("", "-", " ")]


def _in_identifiers(event: dict[str, object]) -> Iterator[Item]:
    """Events that are right but for a card number that stands for an identifier."""
    for card in _CARDS:
        for name in _IDENTIFIERS:
            yield Item(orjson.dumps({**event, name: card}), "card_number")


def _in_payloads(event: dict[str, object]) -> Iterator[Item]:
    """What is dead-lettered for another reason and holds a card number."""
    for card in _CARDS:
        for form in _forms(card):
            whole = orjson.dumps({**event, "note": f"paid with {form}"})
            yield Item(whole, "unknown_field")
            yield Item(b"no JSON: " + whole, "not_json")
            yield Item(gzip.compress(whole), "unknown_field")
        yield Item(whole.decode().encode("utf-16"), "not_utf8")


def _left_behind(arena: Arena) -> Iterator[tuple[str, bytes]]:
    """All that is in Redis, every letter, row and alert, and the logs, by where it stands."""
    command(arena.client, "CONFIG", "SET", "rdbcompression", "no")
    for key in arena.client.scan_iter(count=1_000):
        yield f"Redis at {key!r}", key + (arena.client.dump(key) or b"")
    found = arena.place.find()
    yield "documents", orjson.dumps(found.documents)
    yield "rows", orjson.dumps(found.rows)
    for key in arena.place.letter_keys():
        entry = arena.lab.s3.get_object(Bucket=arena.place.bucket, Key=key)
        yield f"letter {key}", key.encode() + gzip.decompress(entry["Body"].read())
    for path in arena.folder.rglob("*.log"):
        yield str(path), path.read_bytes()


def _planted(in_identifiers: bool, arena: Arena) -> None:  # noqa: FBT001 - by partial
    now_ms = int(datetime.now(UTC).timestamp() * 1_000)
    items = build_traffic(f"{arena.name}0", PLAIN, arena.choice, now_ms)
    (other,) = build_traffic(
        f"{arena.name}0x", replace(PLAIN, transactions=1), arena.choice, now_ms
    )
    event = {name: each for name, each in orjson.loads(other.data).items() if name != "longitude"}
    planted = list((_in_identifiers if in_identifiers else _in_payloads)(event))
    for item in planted:
        items.insert(arena.choice.randint(0, len(items)), item)
    faults = [Fault(Port.PUT, 2, When.MIDDLE), Fault(Port.DECIDE, 3, When.AFTER, Act.RAISE)]
    run = arena.shard(items=items, faults=faults, DEAD_LETTERS__LIMIT_SHARE="1")
    run.largest = 40
    metrics = ScrapedMetrics(run)
    run.work()
    # At least: what the workers that died had counted comes again.
    seen = metrics.read(DEAD_LETTERS)
    assert seen >= len(planted)
    arena.count.at_s += [time.monotonic()] * round(seen)
    for place, body in _left_behind(arena):
        for card in _CARDS:
            for form in _forms(card):
                assert form.encode() not in body, f"{place} shows {form}"


for _in_ids, _where in {True: "instead of identifiers", False: "in what is no event"}.items():
    case(
        f"stream/card numbers {_where}",
        "each record is one dead letter, and no digits are left in Redis, letters, rows or logs",
        quick=_in_ids,
    )(partial(_planted, _in_ids))
