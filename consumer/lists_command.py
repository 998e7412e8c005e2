"""``fraudstream lists``: look at the named lists and change them, every change audited."""

import argparse
import getpass
import re
import socket
import sys
from datetime import UTC, datetime, timedelta

import orjson

from consumer import configuration
from consumer.errors import Misconfigured, Problem, Unavailable
from consumer.features.specification import load_plan
from consumer.masking import mask_text
from consumer.outside import build_lists_texts, build_rule_source
from consumer.pan import PanGuard
from consumer.ports import Texts
from consumer.rules.list_values import fields_in, objection
from consumer.rules.lists import (
    SUFFIX,
    Entry,
    add_entry,
    check_entry,
    check_name,
    parse_list,
    remove_value,
)
from consumer.rules.source import read_lists
from consumer.settings import Settings
from consumer.yaml_document import show_found

_UNTIL = "a day (2026-12-31), a time (2026-12-31T18:00:00Z) or a while from now (12h, 30d)"
_WHILE = re.compile(r"([1-9][0-9]{0,4})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command takes."""
    parser.add_argument("action", choices=("show", "add", "remove"))
    parser.add_argument("name", nargs="?", metavar="NAME", help="of the list: blocked_cards")
    parser.add_argument("value", nargs="?", metavar="VALUE", help="such as a card_id")
    parser.add_argument(
        "--until",
        type=parse_until,
        metavar="TIME",
        help=f"add: when it stops counting (UTC): {_UNTIL}",
    )
    parser.add_argument(
        "--reason", metavar="TEXT", help="add, remove: why; has to be given, kept in the audit"
    )
    parser.add_argument("--create", action="store_true", help="add: begin a list of that name")
    parser.add_argument(
        "--json", action="store_true", help="an entry, a list or what was done a line, as JSON"
    )


def run(arguments: argparse.Namespace) -> int:
    """
    Do what is asked; 1 where the list or the value is not there.

    Raises Misconfigured for wrong arguments and lists, and Unavailable when the place of the
    lists does not answer or someone else changed the list meanwhile.
    """
    settings = configuration.load(arguments.config).settings
    texts = build_lists_texts(settings)
    if arguments.action == "show":
        return _show(texts, arguments)
    _check_arguments(arguments)
    # Where card numbers are hashed a list holds their tokens, as events do.
    guard = PanGuard.of(settings.events)
    value = guard.token(arguments.value)
    change = Change(texts, who=f"{getpass.getuser()}@{socket.gethostname()}", now=_now())
    if arguments.action == "remove":
        removed = change.remove(arguments.name, value, arguments.reason)
        return _tell("removed" if removed else "not there", arguments, found=removed)
    if not guard.is_token(value):
        _check_form(value, arguments.name, settings)
    entry = Entry(value, arguments.until, arguments.reason)
    done = change.add(arguments.name, entry, create=arguments.create)
    words = done or "no such list (--create begins one)"
    return _tell(words, arguments, found=done is not None)


def _check_arguments(arguments: argparse.Namespace) -> None:
    """Raise Misconfigured for what is missing, and for an end that is over."""
    action, problems = arguments.action, []
    if arguments.name is None or arguments.value is None:
        expected = f"fraudstream lists {action} NAME VALUE"
        problems.append(Problem("arguments", action, "one word too few", expected))
    if not (arguments.reason or "").strip():
        expected = "why, for whoever asks later: --reason 'reported stolen'"
        problems.append(Problem("arguments", "--reason", "nothing", expected))
    if action == "add" and arguments.until is not None and arguments.until <= _now():
        found = f"{arguments.until:%Y-%m-%dT%H:%M:%SZ}, which is over"
        problems.append(Problem("arguments", "--until", found, f"a time to come: {_UNTIL}"))
    if problems:
        raise Misconfigured(problems)


def _check_form(value: str, name: str, settings: Settings) -> None:
    """Raise Misconfigured for a value that no event can have where rules use the list."""
    try:
        plan = load_plan(settings.features.path, settings.events.base_currency)
        source = build_rule_source(settings, plan)
        specification, lists = source.read()
    except (Misconfigured, Unavailable):
        # A card is blocked all the same when somebody else broke the rules.
        sys.stderr.write("the rules cannot be read: the form of the value was not checked\n")
        return
    fields = fields_in(name, specification, lists, source.catalogue)
    expected = objection(value, fields, settings.events)
    if expected is not None:
        found = show_found(mask_text(value))
        raise Misconfigured([Problem("arguments", f"a value of {name}", found, expected)])


def parse_until(text: str) -> datetime:
    """
    A day (from its beginning), a time or a while from now; UTC where it names no zone.

    Raises ArgumentTypeError with the forms it takes.
    """
    try:
        if (found := _WHILE.fullmatch(text)) is not None:
            return _now() + timedelta(**{_UNITS[found[2]]: int(found[1])})
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        message = f"found {text!r}, expected {_UNTIL}"
        raise argparse.ArgumentTypeError(message) from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


class Change:
    """One change of a list by *who* at *now*."""

    def __init__(self, texts: Texts, *, who: str, now: datetime) -> None:
        self._texts = texts
        self._who = who
        self._now = now

    def add(self, name: str, entry: Entry, *, create: bool) -> str | None:
        """
        Put *entry* on list *name*, in the place of an earlier one of its value.

        Returns ``added`` or ``replaced``; None where there is no such list and it is not
        to be begun.
        """
        text = f"{name}{SUFFIX}"
        version = self._texts.versions().get(text)
        if version is None and not create:
            return None
        self._check(name, entry)
        data = b"" if version is None else self._texts.read(text)
        before = parse_list(name, data, text)
        written = Entry(entry.value, entry.until, entry.reason, self._who, self._now)
        audit = self._audit("add", name, entry.value, entry.reason, entry.until)
        self._texts.change(text, add_entry(data, written), version, audit)
        return "replaced" if entry.value in before else "added"

    def remove(self, name: str, value: str, reason: str | None) -> bool:
        """Take *value* off list *name*; False where it is not on it."""
        text = f"{name}{SUFFIX}"
        version = self._texts.versions().get(text)
        if version is None:
            return False
        data = self._texts.read(text)
        parse_list(name, data, text)
        kept = remove_value(data, value)
        if kept is None:
            return False
        self._texts.change(text, kept, version, self._audit("remove", name, value, reason, None))
        return True

    def _check(self, name: str, entry: Entry) -> None:
        """Raise Misconfigured where the list or the entry must not be."""
        try:
            check_name(name)
            check_entry(entry)
        except ValueError as error:
            expected = "a list such as blocked_cards and a token, never a card number"
            raise Misconfigured([Problem("arguments", "add", str(error), expected)]) from error

    def _audit(
        self, action: str, name: str, value: str, reason: str | None, until: datetime | None
    ) -> bytes:
        return orjson.dumps(
            {
                "at": self._now,
                "by": self._who,
                "action": action,
                "list": name,
                "value": value,
                "reason": reason,
                "until": until,
            }
        )


def _show(texts: Texts, arguments: argparse.Namespace) -> int:
    problems: list[Problem] = []
    lists = read_lists(texts, problems)
    if problems:
        raise Misconfigured(problems)
    if arguments.name is None:
        for name, entries in lists.items():
            active = sum(entry.counts(_now()) for entry in entries.values())
            ended = len(entries) - active
            if arguments.json:
                _say_json({"list": name, "active": active, "ended": ended})
            else:
                sys.stdout.write(f"{name}  {active} active, {ended} ended\n")
        return 0
    entries = lists.get(arguments.name, {})
    shown = [e for e in entries.values() if arguments.value in (None, e.value)]
    for entry in shown:
        sys.stdout.write(_line(arguments.name, entry, as_json=arguments.json))
    known = arguments.name in lists and (arguments.value is None or bool(shown))
    return 0 if known else _tell("not there", arguments, found=False)


def _line(name: str, entry: Entry, *, as_json: bool) -> str:
    active = entry.counts(_now())
    if as_json:
        shown = {
            "list": name,
            "value": entry.value,
            "active": active,
            "until": entry.until,
            "reason": entry.reason,
            "by": entry.by,
            "at": entry.at,
        }
        return orjson.dumps(shown, option=orjson.OPT_APPEND_NEWLINE).decode()
    until = "" if entry.until is None else f"until {entry.until:%Y-%m-%d %H:%M} "
    ended = "" if active else "(ended) "
    return f"{entry.value}  {until}{ended}{entry.reason or ''}".rstrip() + "\n"


def _say_json(shown: object) -> None:
    sys.stdout.write(orjson.dumps(shown, option=orjson.OPT_APPEND_NEWLINE).decode())


def _tell(word: str, arguments: argparse.Namespace, *, found: bool) -> int:
    if arguments.json:
        shown = {"list": arguments.name, "value": arguments.value and mask_text(arguments.value)}
        _say_json({**shown, "done": found, "what": word})
        return 0 if found else 1
    name = " ".join(filter(None, (arguments.name, arguments.value)))
    (sys.stdout if found else sys.stderr).write(f"{name}: {word}\n")
    return 0 if found else 1


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
