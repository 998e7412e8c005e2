"""How many examples a property is tried with: more where ``make fuzz`` asks for more."""

import hypothesis

_USUAL = 100


def examples(number: int) -> int:
    """*number* in the default profile, in proportion in another."""
    return max(1, number * hypothesis.settings().max_examples // _USUAL)
