"""Rules and lists from where they lie: loaded whole, polled, and refused whole when broken."""

import threading
from collections.abc import Sequence
from typing import Protocol

from consumer.errors import Misconfigured, Problem, Unavailable
from consumer.ports import Texts
from consumer.rules.book import RuleBook
from consumer.rules.compilation import RuleSet, compile_rules
from consumer.rules.examples import check_examples
from consumer.rules.facts import Catalogue
from consumer.rules.keeping import Keeper
from consumer.rules.lists import SUFFIX, Entry, Lists, build_lists, parse_list
from consumer.rules.specification import Mode, Specification, parse_rules


class PollTelemetry(Protocol):
    """What is told of looking for new rules."""

    def rules_refused(self, problems: Sequence[Problem]) -> None:
        """A new version is broken; the rules in force stay."""
        ...

    def rules_usable(self) -> None:
        """A changed version can be used, and was offered."""
        ...

    def rules_unreachable(self, error: Unavailable) -> None:
        """Rules or lists could not be read; the rules in force stay."""
        ...


class RuleSource:
    """
    The rules in the one text of *rules* and the lists in the texts of *lists*.

    ``mode`` is that of the settings, which a file can weaken but not strengthen.
    """

    def __init__(
        self, rules: Texts, lists: Texts, catalogue: Catalogue, mode: Mode = Mode.LIVE
    ) -> None:
        self._rules = rules
        self._lists = lists
        self._catalogue = catalogue
        self._mode = mode
        self._loaded: tuple[dict[str, str], dict[str, str]] | None = None
        self._tried: tuple[str, tuple[str, ...]] | None = None

    @property
    def catalogue(self) -> Catalogue:
        """The names that the rules may use."""
        return self._catalogue

    @property
    def mode(self) -> Mode:
        """The mode of the settings."""
        return self._mode

    def changed(self) -> bool:
        """Whether there is another version than at the last ``load``. Raises Unavailable."""
        return (self._rules.versions(), self._lists.versions()) != self._loaded

    def load(self) -> RuleSet:
        """
        Read and compile everything, and try the examples of each rule.

        Raises Misconfigured with every mistake of rules and lists, after which this version
        does not count as changed, and Unavailable.
        """
        versions = (self._rules.versions(), self._lists.versions())
        # Remembered first: what is broken is refused once, not at every look.
        self._loaded = versions
        try:
            specification, lists = self.read()
        except Unavailable:
            self._loaded = None
            raise
        rules = compile_rules(specification, lists, self._catalogue, self._mode)
        self._try_examples(specification, lists)
        return rules

    def compile(self) -> RuleSet:
        """Read and compile everything, whatever examples say. Raises as ``load``."""
        return compile_rules(*self.read(), self._catalogue, self._mode)

    def _try_examples(self, specification: Specification, lists: Lists) -> None:
        # Examples fill lists themselves, so that a new entry is not a reason to try them again.
        tried = (specification.text, tuple(sorted(lists.ends)))
        if tried != self._tried:
            check_examples(specification, lists, self._catalogue)
            self._tried = tried

    def read(self) -> tuple[Specification, Lists]:
        """Read both without compiling them. Raises Misconfigured and Unavailable."""
        problems: list[Problem] = []
        lists = read_lists(self._lists, problems)
        specification = self._read_rules(problems)
        if specification is None or problems:
            raise Misconfigured(problems)
        return specification, build_lists({name: listed.values() for name, listed in lists.items()})

    def read_lists(self) -> Lists | None:
        """Read the lists alone; None where one is broken or they cannot be reached."""
        problems: list[Problem] = []
        try:
            lists = read_lists(self._lists, problems)
        except Unavailable:
            return None
        if problems:
            return None
        return build_lists({name: listed.values() for name, listed in lists.items()})

    def _read_rules(self, problems: list[Problem]) -> Specification | None:
        place = self._rules.place
        names = list(self._rules.versions())
        if not names:
            problems.append(Problem("settings", "rules.path", place, "a file of rules"))
            return None
        try:
            return parse_rules(_text(self._rules.read(names[0]), place), place)
        except Misconfigured as error:
            problems += error.problems
            return None


def read_lists(lists: Texts, problems: list[Problem]) -> dict[str, dict[str, Entry]]:
    """Read every list: name → value → entry. Adds to *problems*; raises Unavailable."""
    found = {}
    for text in sorted(lists.versions()):
        name = text.removesuffix(SUFFIX)
        try:
            found[name] = parse_list(name, lists.read(text), f"{lists.place}/{text}")
        except Misconfigured as error:
            problems += error.problems
    return found


def _text(data: bytes, place: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Misconfigured([Problem(place, "the file", "other bytes", "UTF-8")]) from error


class RulePoller:
    """
    Looks for other rules or lists every *interval_s*, in a thread of its own.

    A worker never waits for S3 or the store of good sets on the way of a transaction;
    ``close`` ends the thread.
    """

    def __init__(
        self,
        source: RuleSource,
        book: RuleBook,
        interval_s: float,
        telemetry: PollTelemetry,
        keeper: Keeper,
    ) -> None:
        self._keeper = keeper
        self._source = source
        self._book = book
        self._interval_s = interval_s
        self._telemetry = telemetry
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rules", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def poll(self) -> None:
        """
        Store what became of sets, and offer the book what changed.

        Never raises for what is broken or cannot be read.
        """
        self._keeper.note(self._book.judged)
        try:
            if self._source.changed():
                self._book.offer(self._source.load())
                self._telemetry.rules_usable()
            elif (tripped := self._book.tripped) and self._keeper.is_accepted(tripped):
                self._book.offer(tripped, watched=False)
        except Misconfigured as error:
            self._telemetry.rules_refused(error.problems)
        except Unavailable as error:
            self._telemetry.rules_unreachable(error)

    def _run(self) -> None:
        self._keeper.note(self._book.judged)
        while not self._ended.wait(self._interval_s):
            self.poll()
        self._keeper.note(self._book.judged)
