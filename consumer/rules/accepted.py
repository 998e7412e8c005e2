"""
The set of rules and lists that was last found good, as it is kept beside decisions.

It is what a start goes on with when the files are broken or cannot be reached, and what
changed files are compared with after a restart. Rules are kept as they were written; of
lists only the values with their ends, without reasons and comments, since this copy lies
where no free text may. Lists too large for that are kept by their hash alone.
"""

from datetime import UTC, datetime
from typing import Final

import msgspec

from consumer.errors import Misconfigured, Problem
from consumer.masking import holds_card_number
from consumer.rules.compilation import RuleSet, compile_rules, weaker
from consumer.rules.facts import Catalogue
from consumer.rules.lists import Lists, lists_of
from consumer.rules.specification import Mode, parse_rules

LARGEST_LISTS_BYTES: Final = 8 * 1024 * 1024
"""Lists that take more than this are kept by their hash; about 200,000 values."""

_FORMAT = 1
_DIGITS = 16
_FOREVER = float("inf")


class Accepted(msgspec.Struct, frozen=True):
    """
    A copy of one set; ``version`` names it, ``mode`` is the one it decided in.

    ``lists`` is None where they are too large. ``by_hand`` tells that a person accepted
    it, ``by`` who or which worker did.
    """

    version: str
    rules: str
    lists: dict[str, dict[str, float | None]] | None
    lists_hash: str
    mode: str
    accepted_ms: int
    by: str
    by_hand: bool = False
    format: int = _FORMAT

    @property
    def place(self) -> str:
        """What it is called in messages."""
        moment = datetime.fromtimestamp(self.accepted_ms // 1000, UTC)
        return f"last good copy of {moment:%Y-%m-%dT%H:%M:%SZ} by {self.by}"


def version_of(rules: RuleSet) -> str:
    """Name *rules*: sets of one name decide alike."""
    hashes = rules.specification.hash[:_DIGITS], rules.lists.hash[:_DIGITS]
    return f"{hashes[0]}-{hashes[1]}-{rules.mode}"


def copy_of(
    rules: RuleSet,
    accepted_ms: int,
    by: str,
    *,
    by_hand: bool = False,
    largest_bytes: int = LARGEST_LISTS_BYTES,
) -> Accepted | None:
    """Copy *rules*; None where their text holds a card number, which must not lie in Redis."""
    text = rules.specification.text
    if holds_card_number(text):
        return None
    lists: dict[str, dict[str, float | None]] | None = {
        name: {str(value): None if end == _FOREVER else end for value, end in ends.items()}
        for name, ends in rules.lists.ends.items()
    }
    if len(msgspec.json.encode(lists)) > largest_bytes:
        lists = None
    return Accepted(
        version_of(rules),
        text,
        lists,
        rules.lists.hash,
        str(rules.mode),
        accepted_ms,
        by,
        by_hand,
    )


def encode(accepted: Accepted) -> bytes:
    """*accepted* as JSON."""
    return msgspec.json.encode(accepted)


def decode(data: bytes) -> Accepted:
    """Read what ``encode`` wrote. Raises Misconfigured for what another version wrote."""
    try:
        accepted = msgspec.json.decode(data, type=Accepted)
    except msgspec.DecodeError as error:
        problem = _problem("last good copy", str(error))
        raise Misconfigured([problem]) from error
    if accepted.format != _FORMAT:
        raise Misconfigured([_problem(accepted.place, f"format {accepted.format}")])
    return accepted


def restore(accepted: Accepted, catalogue: Catalogue, mode: Mode, present: Lists | None) -> RuleSet:
    """
    Compile *accepted* against the features of now.

    *present* are the lists at their source, taken where the copy has only their hash and it
    is the same. Raises Misconfigured with every mistake.
    """
    specification = parse_rules(accepted.rules, accepted.place)
    if accepted.lists is not None:
        lists = lists_of(
            {
                name: {value: _FOREVER if end is None else end for value, end in ends.items()}
                for name, ends in accepted.lists.items()
            }
        )
    elif present is not None and present.hash == accepted.lists_hash:
        lists = present
    else:
        found = f"lists by their hash {accepted.lists_hash[:_DIGITS]} alone, being too large"
        problem = Problem(accepted.place, "lists", found, "the same lists at rules.lists")
        raise Misconfigured([problem])
    return compile_rules(specification, lists, catalogue, weaker(mode, Mode(accepted.mode)))


def _problem(place: str, found: str) -> Problem:
    return Problem(place, "the copy", found, f"format {_FORMAT} of this version")
