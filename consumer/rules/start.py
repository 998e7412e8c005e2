"""
What a worker starts with: the files, or the last good copy where these cannot be used.

Files that differ from the copy are a change like any other: the copy is the version before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from consumer.errors import Misconfigured, Problem, Unavailable
from consumer.ports import AcceptedRules
from consumer.rules import accepted as copies
from consumer.rules.accepted import Accepted
from consumer.rules.compilation import RuleSet
from consumer.rules.source import RuleSource
from consumer.rules.specification import Mode


@dataclass(frozen=True, slots=True)
class Beginning:
    """
    What to start with.

    ``before`` is the version before, where there is one that differs. ``copy`` is what
    ``rules`` were restored from because of ``problems``; None where they come from the files.
    """

    rules: RuleSet
    before: RuleSet | None = None
    copy: Accepted | None = None
    problems: Sequence[Problem] = ()


def begin(source: RuleSource, store: AcceptedRules) -> Beginning:
    """
    Read the files, else the copy.

    Raises Misconfigured with the mistakes of both where neither can be used, and Unavailable
    where the files cannot be reached and there is no copy, or *store* does not answer.
    """
    data = store.read()
    try:
        rules = source.load()
    except (Misconfigured, Unavailable) as error:
        if data is None:
            raise
        return _restore(source, data, error)
    return Beginning(rules, _before(source, data, rules))


def _restore(source: RuleSource, data: bytes, cause: Misconfigured | Unavailable) -> Beginning:
    try:
        copy = copies.decode(data)
        rules = copies.restore(copy, source.catalogue, source.mode, source.read_lists())
    except Misconfigured as error:
        raise Misconfigured([*_problems(cause), *error.problems]) from cause
    return Beginning(rules, copy=copy, problems=_problems(cause))


def _problems(cause: Misconfigured | Unavailable) -> Sequence[Problem]:
    if isinstance(cause, Misconfigured):
        return cause.problems
    return [Problem(cause.dependency, "rules.path, rules.lists", cause.message, "an answer")]


def _before(source: RuleSource, data: bytes | None, rules: RuleSet) -> RuleSet | None:
    """The copy to compare *rules* with; None where it is equal, decides nothing or is of others."""
    if data is None:
        return None
    try:
        copy = copies.decode(data)
        if copy.version == copies.version_of(rules):
            return None
        before = copies.restore(copy, source.catalogue, source.mode, rules.lists)
    except Misconfigured:
        return None
    return before if before.mode is Mode.LIVE else None
