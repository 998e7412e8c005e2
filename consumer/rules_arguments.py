"""What ``rules backtest`` takes, apart from what it runs, which needs more libraries."""

import argparse
from pathlib import Path
from typing import Final

from consumer.settings import Settings

SAMPLES: Final = 20
LIVE: Final = "live"
NONE: Final = "none"


def add_backtest_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this action takes."""
    parser.add_argument("new", metavar="NEW.yaml", help="the rules to try; also s3://bucket/key")
    parser.add_argument(
        "--source",
        nargs="+",
        required=True,
        metavar="DECISIONS",
        help="decisions of a replay or of Firehose: files, folders or patterns",
    )
    parser.add_argument(
        "--labels", nargs="+", metavar="LABELS", help="what transactions turned out to be"
    )
    parser.add_argument(
        "--against",
        default=LIVE,
        metavar="RULES",
        help="what to compare with: live (rules.path, the default), another file, or none",
    )
    parser.add_argument(
        "--add",
        action="store_true",
        help="NEW.yaml holds only rules to add to those, or to put in the place of equal ids",
    )
    parser.add_argument(
        "--as-live", action="store_true", help="let the shadow rules of NEW.yaml decide, too"
    )
    parser.add_argument(
        "--samples", type=int, default=SAMPLES, metavar="N", help=f"transactions shown ({SAMPLES})"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="other samples")
    parser.add_argument("--json", action="store_true", help="as JSON, for scripts")


def with_rules_at(settings: Settings, place: str | None) -> Settings:
    """*settings* with the rules at *place*, a path or ``s3://bucket/key``; None changes nothing."""
    if place is None:
        return settings
    path = place if place.startswith("s3://") else Path(place)
    return settings.model_copy(update={"rules": settings.rules.model_copy(update={"path": path})})
