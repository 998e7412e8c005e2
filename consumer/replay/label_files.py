"""A source of labels beside that of the transactions."""

from collections.abc import Sequence
from dataclasses import dataclass

from consumer.replay.mapping import FieldMap, Format, LabelPolicy
from consumer.replay.objects import Listed


@dataclass(frozen=True, slots=True)
class LabelFiles:
    """Its *files*, what their columns mean, and the format that was asked for, if any."""

    files: Sequence[Listed]
    field_map: FieldMap
    policy: LabelPolicy
    given: Format | None = None
