"""What is no mistake in a rule, and seldom what was meant."""

from consumer.errors import Problem
from consumer.rules.compilation import place_of
from consumer.rules.facts import Catalogue
from consumer.rules.lists import Lists
from consumer.rules.references import Known, scan
from consumer.rules.specification import Rule, Specification


def find_doubts(specification: Specification, lists: Lists, catalogue: Catalogue) -> list[Problem]:
    """
    Names that may be absent and that a rule does not ask for with ``has()``.

    The rule has no value on events without them, and its ``on_error`` speaks. Whether the
    question stands where it helps is for the examples to show.
    """
    known = Known(
        catalogue.fields, {f.name.removeprefix("f.") for f in catalogue.features}, lists.ends
    )
    return [
        doubt
        for rule in specification.rules
        for doubt in _unasked(rule, specification, known, catalogue)
    ]


def _unasked(
    rule: Rule, specification: Specification, known: Known, catalogue: Catalogue
) -> list[Problem]:
    scanned = scan(rule.when, known)
    optional = {("tx", name) for name in scanned.fields if catalogue.fields[name].optional}
    optional |= {("scores", name) for name in scanned.scores}
    found = []
    for root, name in sorted(optional - scanned.present):
        text = f"{root}.{name}"
        place, key = place_of(specification, rule, *scanned.reads[text])
        expected = f"has({text}) && … before it, or on_error: {rule.on_error} speaks"
        found.append(Problem(place, key, f"{text}, which may be absent", expected))
    return found
