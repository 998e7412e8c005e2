"""
What a rule's expression refers to, found before CEL sees it.

CEL would accept a name that no transaction has and fail on each of them, and it would copy
a list of 100,000 entries on each evaluation. So the names are looked for here: unknown ones
are refused where they stand, ``has(tx.country)`` and ``tx.card_id in lists.blocked_cards``
become truth values that plain Python looks up, and every other name becomes one word.
Nothing moves: a replacement is as long as what it replaces, so the places in CEL's messages
are those of the text that a person wrote.
"""

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

SCORES = ("fraud", "anomaly")

_TOKEN = re.compile(
    r"""
    (?P<skipped> //[^\n]*
      | [rRbB]{0,2} (?: \"{3} (?:\\.|[^\\])*? \"{3} | '{3} (?:\\.|[^\\])*? '{3}
                      | \"(?:\\.|[^\"\\\n])*\" | '(?:\\.|[^'\\\n])*' ) )
  | (?<![\w.]) has \( [ \t]* (?P<asked>tx|f|scores) \. (?P<presence>[A-Za-z_]\w*) [ \t]* \)
  | (?<![\w.]) tx \. (?P<member>[A-Za-z_]\w*) [ \t]+ in [ \t]+ lists \. (?P<list>[A-Za-z_]\w*)
  | (?<![\w.]) (?P<root>tx|f|scores|lists) \b (?: \. (?P<name>[A-Za-z_]\w*) )?
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Known:
    """The names that expressions may use."""

    fields: Collection[str]
    features: Collection[str]
    lists: Collection[str]


@dataclass(frozen=True, slots=True)
class Mistake:
    """A name that cannot be; ``line`` and ``column`` count from 1."""

    line: int
    column: int
    message: str


@dataclass(frozen=True, slots=True)
class Scanned:
    """
    An expression in the words of the compiled language.

    ``fields``, ``features`` and ``scores`` are the names whose values it reads, ``reads`` says
    at which line and column first (``tx.country``), ``present`` the fields and scores it asks
    for, ``members`` pairs of list and field.
    """

    text: str
    fields: frozenset[str]
    features: frozenset[str]
    scores: frozenset[str]
    present: frozenset[tuple[str, str]]
    members: frozenset[tuple[str, str]]
    mistakes: tuple[Mistake, ...]
    reads: Mapping[str, tuple[int, int]]

    @property
    def reads_anything(self) -> bool:
        """Whether its value can differ from one transaction to another."""
        names = self.fields | self.features | self.scores | self.present | self.members
        return bool(names)


def value_name(root: str, name: str) -> str:
    """The word for ``root.name``."""
    return f"{root}_{name}"


def presence_name(root: str, name: str) -> str:
    """The word for ``has(root.name)``."""
    return f"has_{root}_{name}"


def member_name(list_: str, field: str) -> str:
    """The word for ``tx.field in lists.list_``."""
    return f"in_{list_}__{field}"


def scan(expression: str, known: Known) -> Scanned:
    """Find the references of *expression*, and which of them are not *known*."""
    return _Scanner(expression, known).scan()


class _Scanner:
    def __init__(self, expression: str, known: Known) -> None:
        self._expression = expression
        self._names = {"tx": known.fields, "f": known.features, "scores": SCORES}
        self._lists = known.lists
        self._values: dict[str, set[str]] = {"tx": set(), "f": set(), "scores": set()}
        self._present: set[tuple[str, str]] = set()
        self._members: set[tuple[str, str]] = set()
        self._mistakes: list[Mistake] = []
        self._reads: dict[str, tuple[int, int]] = {}

    def scan(self) -> Scanned:
        text = _TOKEN.sub(self._replace, self._expression)
        return Scanned(
            text,
            frozenset(self._values["tx"]),
            frozenset(self._values["f"]),
            frozenset(self._values["scores"]),
            frozenset(self._present),
            frozenset(self._members),
            tuple(self._mistakes),
            self._reads,
        )

    def _replace(self, found: re.Match[str]) -> str:
        if found["skipped"] is not None:
            return found[0]
        if found["presence"] is not None:
            word = self._presence(found, found["asked"], found["presence"])
        elif found["list"] is not None:
            word = self._member(found, found["list"], found["member"])
        else:
            word = self._value(found, found["root"], found["name"])
        return word.ljust(len(found[0]))

    def _presence(self, found: re.Match[str], root: str, name: str) -> str:
        if root == "f":
            self._note(found, "has() of a feature: each transaction has every feature")
        elif self._check(found, root, name):
            self._present.add((root, name))
        return presence_name(root, name)

    def _member(self, found: re.Match[str], list_: str, field: str) -> str:
        if list_ not in self._lists:
            self._unknown(found, "lists", list_, "a list", self._lists)
        elif self._check(found, "tx", field):
            self._members.add((list_, field))
        return member_name(list_, field)

    def _value(self, found: re.Match[str], root: str, name: str | None) -> str:
        if name is None:
            self._note(found, f"{root} without a name behind it")
        elif root == "lists":
            self._note(found, f"lists.{name} elsewhere than in 'tx.FIELD in lists.NAME'")
        elif self._check(found, root, name):
            self._values[root].add(name)
            place = position(self._expression, found.start())
            self._reads.setdefault(f"{root}.{name}", place)
        return value_name(root, name or "")

    def _check(self, found: re.Match[str], root: str, name: str) -> bool:
        if name in self._names[root]:
            return True
        self._unknown(found, root, name, "a name", self._names[root])
        return False

    def _unknown(
        self, found: re.Match[str], root: str, name: str, kind: str, names: Collection[str]
    ) -> None:
        message = f"{root}.{name}, {kind} that does not exist"
        if close := closest(name, names):
            message += f" (did you mean {root}.{close}?)"
        elif names and len(names) <= _SHOWN:
            message += f" (there is {', '.join(sorted(names))})"
        self._note(found, message)

    def _note(self, found: re.Match[str], message: str) -> None:
        self._mistakes.append(Mistake(*position(self._expression, found.start()), message))


def closest(name: str, names: Collection[str]) -> str | None:
    """The one of *names* that *name* may be a misspelling of."""
    return next(iter(difflib.get_close_matches(name, names, n=1)), None)


def position(text: str, index: int) -> tuple[int, int]:
    """Line and column of *index* in *text*, both from 1."""
    before = text[:index]
    return before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1


_SHOWN = 12
