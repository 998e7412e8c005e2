"""Whether a value of a list can ever be that of the fields which rules look up in it."""

import re
from collections.abc import Collection
from typing import get_args

from consumer.currency import EXPONENTS
from consumer.errors import Rejected
from consumer.field_checks import canonical_address
from consumer.rules.facts import Catalogue
from consumer.rules.lists import Lists
from consumer.rules.references import Known, scan
from consumer.rules.specification import Specification
from consumer.settings import Events, IdField
from consumer.wire import COUNTRY_PATTERN, MERCHANT_CATEGORY_PATTERN, WORD_PATTERN

_FORMS = {
    "country": (COUNTRY_PATTERN, "two upper-case letters, such as DE"),
    "merchant_category": (MERCHANT_CATEGORY_PATTERN, "four digits, such as 5411"),
    "channel": (WORD_PATTERN, "one word, such as ecommerce"),
    "entry_mode": (WORD_PATTERN, "one word, such as chip"),
}


def fields_in(
    name: str, specification: Specification, lists: Lists, catalogue: Catalogue
) -> frozenset[str]:
    """Tell which fields of events the rules look up in the list *name*; none where none does."""
    features = {fact.name.removeprefix("f.") for fact in catalogue.features}
    known = Known(catalogue.fields, features, lists.ends)
    members = [pair for rule in specification.rules for pair in scan(rule.when, known).members]
    return frozenset(field for list_, field in members if list_ == name)


def objection(value: str, fields: Collection[str], events: Events) -> str | None:
    """What a value has to be that *value* is not; None where it may be in one of *fields*."""
    expected = [_expected(value, field, events) for field in sorted(fields)]
    if not expected or None in expected:
        return None
    return " or ".join(filter(None, expected))


def _expected(value: str, field: str, events: Events) -> str | None:
    """What *field* holds instead of *value*; None where it may hold that."""
    if field == "ip_address":
        try:
            usual = canonical_address(field, value)
        except Rejected:
            usual = None
        return None if usual == value else f"tx.{field}: {usual or 'an address, as 203.0.113.7'}"
    if field == "currency":
        return None if value in EXPONENTS else f"tx.{field}: an ISO 4217 code, such as EUR"
    if field in get_args(IdField):
        pattern = getattr(events.id_patterns, field) or events.id_pattern
        words = f"an identifier that matches {pattern}"
    elif field in _FORMS:
        pattern, words = _FORMS[field]
    else:
        return None
    return None if re.fullmatch(pattern, value) else f"tx.{field}: {words}"
