"""What several commands take: texts of the command line as checked values."""

import argparse
from collections.abc import Callable


def positive_count(text: str) -> int:
    """A number from 1. Raises argparse.ArgumentTypeError."""
    if not text.isdecimal() or not int(text):
        message = f"expected 1 or more, not {text!r}"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def positive_rate(expected: str) -> Callable[[str], float]:
    """Make what takes a rate above 0, *expected* being what its error asks for."""

    def parse(text: str) -> float:
        try:
            rate = float(text)
        except ValueError:
            rate = 0.0
        if not 0 < rate < float("inf"):
            message = f"expected {expected}, not {text!r}"
            raise argparse.ArgumentTypeError(message)
        return rate

    return parse
