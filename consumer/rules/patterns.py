"""
The regular expressions in a rule, tried before it goes live.

CEL compiles ``tx.card_id.matches("[")`` and fails on each transaction instead.
"""

import re

from consumer.rules.cel import Failure, Language, NotCompiled
from consumer.rules.references import position

_TEXT = r"""[rR]?(?:"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')"""
# Comments and other texts are passed over, so that nothing within them counts.
_MATCHES = re.compile(
    rf"//[^\n]*|\bmatches\s*\((?:[^()\"']*,)?\s*(?P<pattern>{_TEXT})\s*\)|{_TEXT}"
)


def check_patterns(expression: str) -> None:
    """Raise NotCompiled for the first pattern in *expression* that matches nothing ever."""
    language = Language({})
    for found in _MATCHES.finditer(expression):
        pattern = found["pattern"]
        if pattern is None:
            continue
        value = language.compile(f"''.matches({pattern})").evaluate(language.bind({}))
        if isinstance(value, Failure):
            raise NotCompiled(*position(expression, found.start("pattern")), value.reason)
