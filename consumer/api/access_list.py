"""
The list of who may ask what: access keys, callers behind a gateway, and its secrets.

Written by operators in YAML or JSON. It holds secrets, so that no problem in it repeats a value.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from consumer.api.sigv4 import Secret
from consumer.errors import Misconfigured, Problem
from consumer.yaml_document import YamlDocument, expect_key, read_yaml

MIN_SECRET_LENGTH: Final = 32
"""Whoever sees a signed request can try secrets on it, as fast as he likes."""

NAME_PATTERN: Final = r"^[A-Za-z0-9_.@/-]{1,64}\Z"
"""What names somebody, in the list and in logs."""

_KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{8,128}", re.ASCII)
_SECRET: Final = re.compile(rf"[!-~]{{{MIN_SECRET_LENGTH},256}}", re.ASCII)
_TOKEN: Final = re.compile(r"[!-~]{1,4096}", re.ASCII)
_NAME: Final = re.compile(NAME_PATTERN, re.ASCII)
_ARN: Final = re.compile(r"arn:aws[a-z-]*:(?:iam|sts)::[0-9]{12}:[A-Za-z0-9_+=,.@/*-]{1,512}")
_SECRET_FORM: Final = f"{MIN_SECRET_LENGTH} to 256 printable characters without spaces"


class Scope(StrEnum):
    """What a principal may do. ``admin`` has every other."""

    PREDICT = "predict"
    READ = "read"
    LABEL = "label"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A pair of key id and secret, and who has it; ``expires`` is aware."""

    key_id: str
    secret: Secret
    name: str
    scopes: frozenset[Scope]
    expires: datetime | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom the gateway may name: an ARN in which ``*`` stands for anything but ``/`` and ``:``."""

    arn: str
    name: str
    scopes: frozenset[Scope]


@dataclass(frozen=True, slots=True)
class AccessList:
    """Everything that a list says; the first caller that fits an ARN is the one."""

    keys: Mapping[str, AccessKey] = field(default_factory=dict)
    callers: Sequence[Caller] = ()
    gateway_secrets: Sequence[str] = field(default=(), repr=False)

    def find_caller(self, arn: str) -> Caller | None:
        """The caller that *arn* names; None where it is nobody's."""
        return next((each for each in self.callers if _fits(each.arn, arn)), None)


def _fits(pattern: str, arn: str) -> bool:
    expression = "[^/:]*".join(re.escape(part) for part in pattern.split("*"))
    return re.fullmatch(expression, arn) is not None


def parse_access(text: bytes, place: str) -> AccessList:
    """
    Read the list in *text*; *place* is where it stands, for messages.

    Raises Misconfigured with all that is wrong.
    """
    reading = _Reading(_parse(text, place), place)
    found = reading.read()
    if reading.problems:
        raise Misconfigured(reading.problems)
    return found


def _parse(text: bytes, place: str) -> YamlDocument:
    try:
        words = text.decode()
    except UnicodeDecodeError:
        raise _unreadable(place, "text in UTF-8") from None
    if words.lstrip().startswith("{"):
        try:
            return YamlDocument(None, json.loads(words, object_pairs_hook=_once))
        except (ValueError, RecursionError) as error:
            # The error of the parser quotes nothing, but holds all of the text.
            line = getattr(error, "lineno", None)
            raise _unreadable(f"{place}:{line}" if line else place, "valid JSON") from None
    try:
        return read_yaml(words, place)
    except Misconfigured as error:
        where = error.problems[0].source
    # Outside the handler: what was found there may be a secret.
    raise _unreadable(where, "valid YAML, each key once")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        message = "a key stands twice"
        raise ValueError(message)
    return found


def _unreadable(place: str, expected: str) -> Misconfigured:
    return Misconfigured([Problem(place, "the list", "what cannot be read", expected)])


class _Reading:
    """One look at a document, which gathers what is wrong with it."""

    def __init__(self, document: YamlDocument, place: str) -> None:
        self.problems: list[Problem] = []
        self._document = document
        self._place = place

    def read(self) -> AccessList:
        top = self._document.value
        if not isinstance(top, dict) or not top:
            self._note("the list", _describe(top), "keys, or callers and gateway_secrets")
            return AccessList()
        self._check_names("", top, ("keys", "callers", "gateway_secrets"))
        keys: dict[str, AccessKey] = {}
        for path, entry in self._entries(top, "keys"):
            key = self._read_key(path, entry)
            if key.key_id in keys:
                self._note(f"{path}.access_key_id", "one from above", "each once")
            keys[key.key_id] = key
        callers = [self._read_caller(*each) for each in self._entries(top, "callers")]
        return AccessList(keys, tuple(callers), self._read_gateway_secrets(top))

    def _read_key(self, path: str, entry: dict[str, Any]) -> AccessKey:
        names = ("access_key_id", "secret_access_key", "session_token", "name", "scopes", "expires")
        self._check_names(path, entry, names)
        secret = self._text(path, entry, "secret_access_key", _SECRET, _SECRET_FORM)
        token = None
        if entry.get("session_token") is not None:
            expected = "up to 4,096 printable characters without spaces"
            token = self._text(path, entry, "session_token", _TOKEN, expected)
        return AccessKey(
            self._text(path, entry, "access_key_id", _KEY_ID, "8 to 128 of A-Z a-z 0-9 _ -"),
            Secret(secret, token),
            self._name(path, entry),
            self._scopes(path, entry),
            self._expires(path, entry),
        )

    def _read_caller(self, path: str, entry: dict[str, Any]) -> Caller:
        self._check_names(path, entry, ("arn", "name", "scopes"))
        expected = "the ARN of a user or an assumed role; * stands for a part of a name"
        arn = self._text(path, entry, "arn", _ARN, expected)
        return Caller(arn, self._name(path, entry), self._scopes(path, entry))

    def _read_gateway_secrets(self, top: dict[str, Any]) -> tuple[str, ...]:
        told = top.get("gateway_secrets", [])
        if not isinstance(told, list):
            self._note("gateway_secrets", _describe(told), "a list")
            return ()
        for index, each in enumerate(told):
            if not isinstance(each, str) or not _SECRET.fullmatch(each):
                self._note(f"gateway_secrets[{index}]", _describe(each), _SECRET_FORM)
        if top.get("callers") and not told:
            self._note("gateway_secrets", "nothing", "a secret of the gateway beside callers")
        return tuple(each for each in told if isinstance(each, str))

    def _entries(self, top: dict[str, Any], name: str) -> list[tuple[str, dict[str, Any]]]:
        told = top.get(name, [])
        if not isinstance(told, list):
            self._note(name, _describe(told), "a list")
            return []
        found = []
        for index, each in enumerate(told):
            path = f"{name}[{index}]"
            if isinstance(each, dict):
                found.append((path, each))
            else:
                self._note(path, _describe(each), "keys and values")
        return found

    def _text(
        self,
        path: str,
        entry: dict[str, Any],
        name: str,
        pattern: re.Pattern[str],
        expected: str,
    ) -> str:
        value = entry.get(name)
        if isinstance(value, str) and pattern.fullmatch(value):
            return value
        if value is not None and not isinstance(value, str):
            expected = f"{expected}, in quotes"
        self._note(f"{path}.{name}", _describe(value), expected)
        return ""

    def _name(self, path: str, entry: dict[str, Any]) -> str:
        return self._text(path, entry, "name", _NAME, "1 to 64 of A-Z a-z 0-9 _ . @ / -")

    def _scopes(self, path: str, entry: dict[str, Any]) -> frozenset[Scope]:
        told = entry.get("scopes")
        known = [each.value for each in Scope]
        expected = f"a list of {', '.join(known)}"
        if not isinstance(told, list) or not told:
            self._note(f"{path}.scopes", _describe(told), expected)
            return frozenset()
        wrong = [index for index, each in enumerate(told) if each not in known]
        for index in wrong:
            self._note(f"{path}.scopes[{index}]", _describe(told[index]), expected[10:])
        return frozenset(Scope(each) for each in told if each in known)

    def _expires(self, path: str, entry: dict[str, Any]) -> datetime | None:
        told = entry.get("expires")
        if told is None:
            return None
        moment = _read_time(told)
        if moment is None:
            expected = "a time with its zone, such as 2027-01-31T00:00:00Z"
            self._note(f"{path}.expires", _describe(told), expected)
        return moment

    def _check_names(self, path: str, entry: dict[str, Any], known: Sequence[str]) -> None:
        for name in entry:
            if name not in known:
                place = f"{path}.{name}" if path else str(name)
                self._note(place, "an unknown key", expect_key(name, known), key=True)

    def _note(self, path: str, found: str, expected: str, *, key: bool = False) -> None:
        place = self._document.place(self._place, path, key=key)
        self.problems.append(Problem(place, path, found, expected))


def _read_time(told: object) -> datetime | None:
    read: Callable[[str], datetime] = datetime.fromisoformat
    try:
        moment = read(told) if isinstance(told, str) else told
    except ValueError:
        return None
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        return None
    return moment.astimezone(UTC)


def _describe(value: object) -> str:
    """What *value* is, without what it says."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"a text of {len(value)} characters"
    kinds = {bool: "true or false", int: "a number", float: "a number", list: "a list"}
    return kinds.get(type(value), "keys and values" if isinstance(value, dict) else "a value")
