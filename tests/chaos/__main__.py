"""Run the fault suite: ``python -m tests.chaos``, with ``ONLY`` and ``CHAOS_SEED``."""

import os
import random
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson

from tests.chaos.cases import load
from tests.chaos.lab import ROOT, open_lab
from tests.chaos.registry import CASES, Case, Result
from tests.chaos.runner import run_cases

_REPORT = ROOT / ".chaos" / "report.json"


def main() -> int:
    """Run what is asked for; 0 when every case passed, 1 otherwise, 2 when none is named so."""
    # Whoever started this in the background may have told it to ignore these.
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.default_int_handler)
    load()
    wanted = os.environ.get("ONLY", "")
    chosen = [case for case in CASES.values() if wanted in case.name]
    if not chosen:
        names = "\n  ".join(CASES)
        _say(f"ONLY={wanted} names no case. There are:\n  {names}")
        return 2
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))
    _say(f"CHAOS_SEED={seed}, {len(chosen)} cases")
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    results = []
    for number, result in enumerate(_run(chosen, seed, folder), 1):
        results.append(result)
        _print(number, len(chosen), result)
        _write(seed, results)
    failed = [result for result in results if result.failure]
    _say(
        f"{len(results) - len(failed)} of {len(results)} cases passed, "
        f"{sum(result.injected for result in results):,} faults injected; {_REPORT}"
    )
    if failed:
        _say(f"The logs are in {folder}; repeat with CHAOS_SEED={seed}.")
    return 1 if failed else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _run(cases: Iterable[Case], seed: int, folder: Path) -> Iterator[Result]:
    with open_lab(folder / "lab") as lab:
        yield from run_cases(cases, lab, seed, folder)


def _print(number: int, total: int, result: Result) -> None:
    state = "FAILED" if result.failure else "ok"
    recovered = "nothing to recover after"
    if result.recovered_s is not None:
        recovered = f"recovered in {result.recovered_s:g} s"
    _say(
        f"{number:3}/{total} {state:6} {result.seconds:5.1f} s  {result.name}  "
        f"({result.sent} sent, {result.injected} injected, {recovered})",
    )
    if result.failure:
        _say("    " + result.failure.replace("\n", "\n    "))


def _write(seed: int, results: list[Result]) -> None:
    _REPORT.parent.mkdir(exist_ok=True)
    body = {"seed": seed, "cases": [result.as_json() for result in results]}
    _REPORT.write_bytes(orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


if __name__ == "__main__":
    raise SystemExit(main())
