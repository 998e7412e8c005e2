"""
Card numbers (PANs) in events: refused, or replaced by a keyed hash before anything sees them.

A token is ``pan:<key id>:<hash>``, where the hash is the first 128 bits (hex) of
HMAC-SHA-256 over the digits alone, so that one card has one token however its
number was written. A plain hash would not do: there are few enough card numbers
to try them all. The newest key makes tokens; former ones are kept for look-ups,
and to recognise a transaction that was decided before the keys were rotated.
"""

import hmac
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from consumer import settings
from consumer.errors import Misconfigured, Problem, Rejected
from consumer.masking import (
    holds_card_number,
    is_card_number,
    mask_text,
    replace_card_numbers,
)

_KEY = re.compile(r"([A-Za-z0-9]{1,8}):((?:[0-9A-Fa-f]{2}){32,})")
_HEX_DIGITS = 32
_TOKEN = re.compile(rf"pan:[A-Za-z0-9]{{1,8}}:[0-9a-f]{{{_HEX_DIGITS}}}")


@dataclass(frozen=True, slots=True)
class PanKey:
    """A key with the name that its tokens carry."""

    key_id: str
    secret: bytes = field(repr=False)

    def token(self, written: str) -> str:
        """Return the token of a card number, whatever separates its digits."""
        # Digits of any script count: int() reads each of them.
        digits = "".join(str(int(sign)) for sign in written if sign.isdecimal())
        digest = hmac.digest(self.secret, digits.encode(), "sha256").hex()
        return f"pan:{self.key_id}:{digest[:_HEX_DIGITS]}"


class PanGuard:
    """What happens to card numbers: without keys they are refused, else replaced."""

    def __init__(self, keys: Sequence[PanKey] = ()) -> None:
        """*keys* are in the order of age, the newest first."""
        self.keys = tuple(keys)

    @classmethod
    def of(cls, events: settings.Events) -> "PanGuard":
        """
        Build what ``events.pan`` asks for.

        Raises Misconfigured where it asks for hashing and there is no key, or a key
        cannot be read; the message never repeats one.
        """
        if events.pan == "reject":
            return cls()
        keys, problems = _read_keys(events)
        if problems:
            raise Misconfigured(problems)
        return cls(keys)

    def check_identifier(self, name: str, value: str) -> str:
        """
        Return *value*, or what stands for it when it is a card number.

        Where tokens are made also for a card number inside it. Raises Rejected
        (``card_number``) without keys, for a value that is one as a whole.
        """
        if self.keys:
            return self.token(value)
        return self.refuse_identifier(name, value)

    def refuse_identifier(self, name: str, value: str) -> str:
        """Return *value*. Raises Rejected (``card_number``) where it is one as a whole."""
        if is_card_number(value):
            # Operators whose honest numbers look so must learn of the way out from the letter.
            field_name = name.rpartition(".")[2]
            hint = f"honest numbers that look so need {field_name} out of events.pan_fields"
            raise Rejected("card_number", f"{_found(name).message}; {hint}")
        return value

    def check_text(self, name: str, value: str) -> str:
        """
        Return *value* with every stretch replaced that may be a card number.

        Without keys one that stands alone is refused (Rejected, ``card_number``); what
        only may be one by chance, inside a longer word, is masked.
        """
        if self.keys:
            return self.token(value)
        if holds_card_number(value):
            raise _found(name)
        return mask_text(value)

    def check_number(self, name: str, value: float) -> int | float | str:
        """Return *value*, or the token of a whole one with the digits of a card number."""
        if not float(value).is_integer():
            return value
        digits = str(int(value))
        if not is_card_number(digits):
            return value
        if not self.keys:
            raise _found(name)
        return self.token(digits)

    def is_token(self, value: str) -> bool:
        """Whether *value* has the form of a token, which every identifier may have."""
        return bool(self.keys) and _TOKEN.fullmatch(value) is not None

    def token(self, value: str, key: PanKey | None = None) -> str:
        """
        Return what *value* is stored as: itself with card numbers replaced.

        By the newest key, or *key*; without any key as it is. What a look-up, a named
        list or a search takes from a person goes through here.
        """
        if key is None:
            if not self.keys:
                return value
            key = self.keys[0]
        if is_card_number(value):
            return key.token(value)
        return replace_card_numbers(value, key.token)

    def tokens(self, value: str) -> tuple[str, ...]:
        """Return what *value* may be stored as, by the newest key and every former one."""
        return tuple(dict.fromkeys(self.token(value, key) for key in self.keys)) or (value,)


def _found(name: str) -> Rejected:
    return Rejected("card_number", f"{name}: expected a token, found what may be a card number")


def _read_keys(events: settings.Events) -> tuple[list[PanKey], list[Problem]]:
    expected = "the keys as <id>:<64 or more hex digits>, the newest first"
    inline, path = events.pan_keys, events.pan_keys_file
    if (inline is None) == (path is None):
        found = "neither" if inline is None else "both"
        problem = Problem(
            "settings",
            "events.pan",
            f"hash with {found} of events.pan_keys and events.pan_keys_file",
            f"one of them with {expected}, or pan: reject",
        )
        return [], [problem]
    if path is None:
        assert inline is not None
        return _parse_keys("events.pan_keys", inline.get_secret_value())
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else None
        found = f"an unreadable file ({why or 'not ASCII'})"
        return [], [Problem(str(path), "events.pan_keys_file", found, expected)]
    return _parse_keys("events.pan_keys_file", text)


def _parse_keys(setting: str, text: str) -> tuple[list[PanKey], list[Problem]]:
    """Read keys between blanks, line ends or commas."""
    words = text.replace(",", " ").split()
    problems = list(_problems(setting, words))
    if problems:
        return [], problems
    parts = [word.split(":", 1) for word in words]
    return [PanKey(key_id, bytes.fromhex(secret)) for key_id, secret in parts], []


def _problems(setting: str, words: Sequence[str]) -> Iterator[Problem]:
    """Name keys by their place alone: nothing of a key belongs in a message."""
    if not words:
        yield Problem("settings", setting, "no key", "one at least")
    for place, word in enumerate(words, 1):
        if _KEY.fullmatch(word) is None:
            found = f"something else in place {place}"
            expected = "<id>:<hex>, an id of 1 to 8 letters and digits and 64 or more hex digits"
            yield Problem("settings", setting, found, expected)
    ids = [word.partition(":")[0] for word in words]
    if len(set(ids)) < len(ids):
        yield Problem("settings", setting, "an id that stands twice", "another id for each key")
