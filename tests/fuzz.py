"""
``make fuzz``: the stateful model and every fuzz test, round after round, until time is up.

Round *n* searches with the seed *n* above that of the first; whoever repeats a round by its
seed repeats its search. What was found before is tried first, from ``.hypothesis``.
"""

import argparse
import os
import random
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

_say = partial(print, flush=True)
_PASSING = re.compile(rb"- (\d+) passing")
_STATISTICS = re.compile(r"^=+ Hypothesis Statistics =+$.*?(?=^=)", re.MULTILINE | re.DOTALL)
_TESTS = Path(__file__).parent / "properties"


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
    while not rounds or time.monotonic() < ends_s:
        failed, output = _search(seed + rounds)
        found = sum(map(int, _PASSING.findall(output)))
        tried, rounds = tried + found, rounds + 1
        _say(f"Round {rounds}, seed {seed + rounds - 1}: {found} examples.")
        if failed:
            _say(_STATISTICS.sub("", output.decode(errors="replace")))
            _say(f"Found with {tried} examples; again: make fuzz SEED={seed + rounds - 1}")
            return 1
    _say(f"Nothing found with {tried} examples in {rounds} rounds from seed {seed} on.")
    return 0


def _search(seed: int) -> tuple[bool, bytes]:
    """Run one round; whether it failed, and what pytest said."""
    tests = sorted(map(str, [*_TESTS.glob("test_*fuzz*.py"), _TESTS / "test_worker_model.py"]))
    command = [sys.executable, "-m", "pytest", *tests, "-q", "--no-header", "--timeout=1800"]
    command += ["--hypothesis-profile=fuzz", f"--hypothesis-seed={seed}"]
    # Without the tests that search the same way each time, to see what the model finds.
    command += ["--hypothesis-show-statistics", "-k", "not a_protection_that_is_missing"]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return done.returncode != 0, done.stdout


if __name__ == "__main__":
    sys.exit(main())
