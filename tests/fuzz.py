"""
``make fuzz``: the stateful model and every fuzz test, round after round, until time is up.

Round *n* searches with the seed *n* above that of the first; whoever repeats a round by its
seed repeats its search, and the order of its tests. The last round is cut where time is up.
What was found before is tried first, from ``.hypothesis``, also what a cut kept from being told.
"""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

_say = partial(print, flush=True)
_PASSING = re.compile(rb"- (\d+) passing")
_STATISTICS = re.compile(r"^=+ Hypothesis Statistics =+$.*?(?=^=)", re.MULTILINE | re.DOTALL)
_FAILED = re.compile(rb"^(?:FAILED|ERROR) ", re.MULTILINE)
# Hypothesis listens to the garbage collector; an interrupt that meets it there goes no further,
# and pytest blames the test that is under way.
_SWALLOWED = re.compile(rb"^E .*Exception ignored in: <function gc_cumulative_time", re.MULTILINE)
_TESTS = Path(__file__).parent / "properties"
# For the summary of a round that is cut, and for its servers to end.
_CUT_LIMIT_S = 20.0
_AGAIN_S = 4.0


@dataclass(frozen=True, slots=True)
class Round:
    """One search: whether it *failed*, whether time *cut* it, and what pytest said."""

    failed: bool
    cut: bool
    output: bytes


def main() -> int:
    """Search for as long as was asked for; 1 at the first round that found something."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int)
    arguments = parser.parse_args()
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
    _say(f"Seed {seed}, {arguments.seconds:g} seconds.")
    ends_s = time.monotonic() + arguments.seconds
    tried = rounds = 0
    while (left_s := ends_s - time.monotonic()) > 0:
        done = _search(seed + rounds, left_s)
        found = sum(map(int, _PASSING.findall(done.output)))
        tried, rounds = tried + found, rounds + 1
        how = ", then cut" if done.cut else ""
        _say(f"Round {rounds}, seed {seed + rounds - 1}: {found} examples{how}.")
        if done.failed:
            _say(_STATISTICS.sub("", done.output.decode(errors="replace")))
            _say(f"Found with {tried} examples; again: make fuzz SEED={seed + rounds - 1}")
            return 1
    _say(f"Nothing found with {tried} examples in {rounds} rounds from seed {seed} on.")
    return 0


def _search(seed: int, limit_s: float) -> Round:
    """Run one round, for *limit_s* at most."""
    tests = sorted(map(str, [*_TESTS.glob("test_*fuzz*.py"), _TESTS / "test_worker_model.py"]))
    # Else a short search would try the first of them alone.
    random.Random(seed).shuffle(tests)
    command = [sys.executable, "-m", "pytest", *tests, "-q", "--no-header", "--timeout=1800"]
    command += ["--hypothesis-profile=fuzz", f"--hypothesis-seed={seed}"]
    # Without the tests that search the same way each time, to see what the model finds.
    command += ["--hypothesis-show-statistics", "-k", "not a_protection_that_is_missing"]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        output, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        return _cut(process)
    return Round(process.returncode != 0, cut=False, output=output)


def _cut(process: "subprocess.Popen[bytes]") -> Round:
    """End a round as Ctrl-C would: pytest then says what came of the tests before."""
    output = None
    for _ in range(round(_CUT_LIMIT_S / _AGAIN_S)):
        process.send_signal(signal.SIGINT)
        try:
            output, _ = process.communicate(timeout=_AGAIN_S)
            break
        except subprocess.TimeoutExpired:
            continue
    if output is None:
        process.kill()
        output, _ = process.communicate()
    failed = len(_FAILED.findall(output)) > len(_SWALLOWED.findall(output))
    return Round(failed, cut=True, output=output)


if __name__ == "__main__":
    sys.exit(main())
