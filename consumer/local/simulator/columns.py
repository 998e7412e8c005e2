"""
Many transactions as one array a field, which is what makes generation fast.

Cards and merchants are indices into the population here; names and bytes come
last, in ``events``.
"""

from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000

NOTHING = -1
"""Stands for no terminal and no device."""


class Pattern(IntEnum):
    """What a transaction is part of; everything but NONE is fraud."""

    NONE = 0
    AMOUNT_JUMP = 1
    COMPROMISED_TERMINAL = 2
    STOLEN_CARD = 3
    NEW_DEVICE_BURST = 4
    IMPOSSIBLE_TRAVEL = 5


class Entry(IntEnum):
    """How the card was read."""

    CHIP = 0
    CONTACTLESS = 1
    MAGSTRIPE = 2
    ECOMMERCE = 3


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of simulated time, milliseconds since the epoch, the end excluded."""

    start_ms: int
    end_ms: int

    @property
    def days(self) -> float:
        """Its length in days."""
        return (self.end_ms - self.start_ms) / DAY_MS

    def contains(self, time_ms: Ints) -> Mask:
        """Which of the times lie in it."""
        return (time_ms >= self.start_ms) & (time_ms < self.end_ms)


@dataclass(frozen=True, slots=True)
class Columns:
    """
    Transactions as parallel arrays of length n.

    ``cents`` is the money in euro cents, whatever currency the merchant takes;
    ``refund`` marks what gives money back.
    """

    time_ms: Ints
    card: Ints
    merchant: Ints
    terminal: Ints
    cents: Ints
    entry: Ints
    device: Ints
    pattern: Ints
    refund: Mask

    def __len__(self) -> int:
        return len(self.time_ms)

    def take(self, which: Ints | Mask | slice) -> "Columns":
        """The rows that *which* selects, in its order."""
        return Columns(*(getattr(self, field.name)[which] for field in fields(self)))

    def within(self, span: Span) -> "Columns":
        """The rows inside *span*."""
        return self.take(span.contains(self.time_ms))

    def in_time_order(self) -> "Columns":
        """The rows by time; those of one millisecond keep their order."""
        return self.take(np.argsort(self.time_ms, kind="stable"))


def joined(parts: list[Columns]) -> Columns:
    """The rows of all *parts*, one after the other."""
    return Columns(
        *(
            np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(Columns)
        )
    )


def mixed(numbers: Hashes) -> Hashes:
    """
    Scatter *numbers* over 64 bits, one to one, so that counting up yields
    unguessable-looking names without a repeat (the finaliser of SplitMix64,
    Steele, Lea and Flood 2014).
    """
    z = numbers + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


_LETTERS = np.frombuffer(b"abcdefghijklmnop", dtype=np.uint8)
_SHIFTS = np.arange(60, -1, -4, dtype=np.uint64)


def tokens(prefix: str, numbers: Hashes) -> list[str]:
    """
    A name for each number: *prefix* and 16 letters.

    Letters only: a run of 13 or more digits could pass for a card number, and
    whoever masks those would be right to.
    """
    nibbles = (mixed(numbers)[:, None] >> _SHIFTS) & np.uint64(15)
    names = np.ascontiguousarray(_LETTERS[nibbles]).view("S16").ravel().astype("U16")
    return [prefix + name for name in names.tolist()]
