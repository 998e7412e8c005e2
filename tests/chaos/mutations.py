"""
Shows that the fault suite bites: ``make mutations``, ``ONLY=word`` for some of them.

Each protection is taken out of a copy of the tree, one at a time, and the cases that are
to notice have to fail there. They have to pass in an untouched copy first. A protection
that can be removed unnoticed is a promise that nothing holds.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_COPIED = ("config", "consumer", "tests")
_FILES = ("setup.cfg", "pyproject.toml", "README.md")
_LIMIT_S = 300


@dataclass(frozen=True, slots=True)
class Mutation:
    """
    One protection: *found* in *file* becomes *changed*.

    *notices* are what has to fail: a part of the name of cases or, where it is the suite itself
    that is broken, a path for pytest.
    """

    name: str
    guarantee: str
    file: str
    found: str
    changed: str
    notices: str


MUTATIONS = (
    Mutation(
        "a checkpoint names its position",
        "1 nothing is lost",
        "consumer/adapters/kinesis.py",
        "checkpointer.checkpoint(number, sub_number)",
        "checkpointer.checkpoint()",
        "processes/kill between a checkpoint and its answer",
    ),
    Mutation(
        "a checkpoint waits for Firehose",
        "1 nothing is lost",
        "consumer/worker.py",
        "        future = self._parts.sink.publish(documents)\n",
        "        self._parts.sink.publish(documents)\n        self._progress.finish(ticket)\n"
        "        return\n",
        "sinks/the delivery stream is gone, without a spill",
    ),
    Mutation(
        "an error ends the process before kclpy answers OK",
        "1 nothing is lost",
        "consumer/adapters/kinesis.py",
        "        finally:\n            self._leave(code)",
        "        finally:\n            pass",
        "processes/an error nobody expected",
    ),
    Mutation(
        "nothing but the protocol on standard output",
        "1 nothing is lost",
        "consumer/stdout_guard.py",
        "    os.dup2(2, 1)\n",
        "",
        "processes/a library prints to standard output",
    ),
    Mutation(
        "an id that is known changes nothing",
        "2 features change once",
        "consumer/features/applying.lua",
        "elseif s and is_known(st, sub(argument, 1, 8)) then",
        "elseif false then",
        "processes/kill around the feature update",
    ),
    Mutation(
        "one layer retries",
        "2 features change once",
        "consumer/adapters/redis/connection.py",
        "retry=Retry(NoBackoff(), 0),",
        "retry=Retry(NoBackoff(), 3),",
        "redis/one layer retries",
    ),
    Mutation(
        "an id that comes again within a chunk waits for its first record",
        "3 decided once",
        "consumer/engine.py",
        "        if name in seen:\n",
        "        if False:\n",
        "redis/refused at the first of two records of one id",
    ),
    Mutation(
        "a checkpoint waits for the replicas",
        "1 nothing is lost",
        "consumer/worker.py",
        "        self._confirm()\n        checkpoint(position)\n",
        "        checkpoint(position)\n        self._confirm()\n",
        "redis/the replica falls behind",
    ),
    Mutation(
        "a worker that lost its lease works nothing more",
        "1 nothing is lost",
        "consumer/adapters/kinesis.py",
        "            self._refused = True\n",
        "            pass\n",
        "dynamodb/the lease is lost in mid-stream",
    ),
    Mutation(
        "a worker begins at its checkpoint",
        "1 nothing is lost",
        "consumer/adapters/kinesis.py",
        "return Position(int(sequence_number), int(sub_sequence_number or 0))",
        "return None",
        "stream/a checkpoint that the stream no longer holds",
    ),
    Mutation(
        "the spill takes all that Firehose refused",
        "1 nothing is lost",
        "consumer/adapters/firehose.py",
        "        spill.put(left)\n",
        "        spill.put(left[:-1] or left)\n",
        "sinks/the delivery stream is gone, with a spill",
    ),
    Mutation(
        "nothing is checkpointed while a flood may have begun",
        "7 a bad record costs itself",
        "consumer/worker.py",
        " or self._parts.flood.suspicious:\n",
        ":\n",
        "stream/a flood of bad records",
    ),
    Mutation(
        "a fraud score in the upper band declines",
        "3 decided once, as promised",
        "consumer/decision.py",
        "Outcome.DECLINE if declining else Outcome.REVIEW",
        "Outcome.REVIEW",
        "processes/kill around the documents",
    ),
    Mutation(
        "a row tells the outcome",
        "6 repeats are equal",
        "consumer/row.py",
        'row["decision"] = decision["outcome"]',
        'row["decision"] = "approve"',
        "processes/kill around the sending to Firehose",
    ),
    Mutation(
        "documents expire",
        "3 decided once, for as long as promised",
        "consumer/adapters/redis/documents.py",
        "  redis.call('EXPIRE', keys[1], args[1])\n",
        "",
        "processes/kill around the documents",
    ),
    Mutation(
        "of two labels of one time the same one stands everywhere",
        "2 features change once",
        "consumer/adapters/redis/documents.py",
        " or (known_time == time and known_id > id)",
        "",
        "processes/kill around the labels of documents",
    ),
    Mutation(
        "nothing is sent to a primary that may lack what was written",
        "1 nothing is lost",
        "consumer/outside.py",
        "    inspect = None if durability is None else durability.inspect\n",
        "    inspect = None\n",
        "redis/a primary is lost in the middle of a delivery",
    ),
    Mutation(
        "an entity whose keys lie on two servers is left alone",
        "2 features change once",
        "consumer/features/state.lua",
        "  call('EXISTS', key .. ':-', key .. ':=')\n",
        "",
        "redis/slots of a cluster move",
    ),
    Mutation(
        "the first document stands",
        "3 decided once",
        "consumer/adapters/redis/documents.py",
        "if not redis.call('JSON.SET', keys[1], '$', document, 'NX') then",
        "if not redis.call('JSON.SET', keys[1], '$', document) then",
        "processes/kill around the documents",
    ),
    Mutation(
        "a clock ahead is clamped to the arrival",
        "4 features depend on events and time only",
        "consumer/engine.py",
        "return min(int(self.transaction.event_time.timestamp()), self.origin.arrival_ms // 1000)",
        "return int(self.transaction.event_time.timestamp())",
        "processes/kill around the feature update",
    ),
    Mutation(
        "a deadline ends the wait for a model",
        "5 a sick endpoint degrades",
        "consumer/scoring.py",
        '        return "timeout"\n    error = future.exception()',
        "        pass\n    error = future.exception()",
        "endpoints/calls that end long after the deadline",
    ),
    Mutation(
        "the wait for models ends",
        "5 a sick endpoint degrades",
        "consumer/scoring.py",
        "wait(futures, timeout=max(0.0, self._remaining_s()))",
        "wait(futures)",
        "endpoints/calls that end long after the deadline",
    ),
    Mutation(
        "the deadline is that of the settings",
        "5 a sick endpoint degrades",
        "consumer/scoring.py",
        "self._deadline_s = settings.deadline_ms / 1000",
        "self._deadline_s = settings.deadline_ms / 1000 * 3",
        "endpoints/a slow drip",
    ),
    Mutation(
        "an answer is there in time as a whole",
        "5 waiting has an end",
        "consumer/adapters/aws.py",
        "                if time.monotonic() >= ends_s:\n",
        "                if False:\n",
        "sinks/Firehose takes rows and its answers drip",
    ),
    Mutation(
        "rows that hang hold up a quiet shard",
        "5 waiting has an end",
        "consumer/worker.py",
        "publishing.future.done() or publishing.started_s <= overdue_s",
        "publishing.future.done()",
        "sinks/calls of Firehose hang while nothing comes",
    ),
    Mutation(
        "a checkpoint that is throttled is waited for",
        "5 an outage is waited out",
        "consumer/adapters/kinesis.py",
        "            if error.value in _TRANSIENT:\n",
        "            if False:\n",
        "dynamodb/checkpoints throttled for a while",
    ),
    Mutation(
        "a drain gives up in time",
        "5 an outage is waited out",
        "consumer/adapters/kinesis.py",
        "checkpoint = self._checkpoint_of(message.checkpointer, until_s)",
        "checkpoint = self._checkpoint_of(message.checkpointer)",
        "dynamodb/checkpoints throttled while a worker is told to stop",
    ),
    Mutation(
        "a prediction has one id for ever",
        "6 repeats can be removed",
        "consumer/row.py",
        'stored["prediction_id"]',
        "str(id(stored))",
        "processes/kill around the sending to Firehose",
    ),
    Mutation(
        "a dead letter is named by its position",
        "7 a bad record costs itself",
        "consumer/model.py",
        "    def letter_id(self) -> str:\n",
        "    def letter_id(self) -> str:\n        return hex(id(self))\n\n    def no(self):\n",
        "processes/kill around the dead letters",
    ),
    Mutation(
        "card numbers in dead letters are masked",
        "8 no card number in clear",
        "consumer/masking.py",
        "def mask_payload(",
        "def mask_payload(data: bytes) -> bytes:\n    return data\n\n\ndef _never(",
        "stream/card numbers in what is no event",
    ),
    Mutation(
        "card numbers in identifiers are refused",
        "8 no card number in clear",
        "consumer/field_checks.py",
        "        if check.guard is not None:\n",
        "        if False:\n",
        "stream/card numbers instead of identifiers",
    ),
    Mutation(
        "the checker compares what decisions were made on",
        "the checker itself",
        "tests/chaos/checker.py",
        "def _unequal(",
        "def _unequal(*_: object) -> list[object]:\n    return []\n\n\ndef _never(",
        "tests/chaos/test_checker.py",
    ),
    Mutation(
        "the checker compares documents",
        "the checker itself",
        "tests/chaos/checker.py",
        "def _documents(",
        "def _documents(*_: object) -> list[object]:\n    return []\n\n\ndef _never(",
        "tests/chaos/test_checker.py",
    ),
    Mutation(
        "the checker compares rows",
        "the checker itself",
        "tests/chaos/checker.py",
        "def _rows(",
        "def _rows(*_: object, **__: object) -> list[object]:\n    return []\n\n\ndef _never(",
        "tests/chaos/test_checker.py",
    ),
    Mutation(
        "the checker compares dead letters",
        "the checker itself",
        "tests/chaos/checker.py",
        "def _letters(",
        "def _letters(*_: object, **__: object) -> list[object]:\n    return []\n\n\ndef _never(",
        "tests/chaos/test_checker.py",
    ),
    Mutation(
        "the checker compares alerts",
        "the checker itself",
        "tests/chaos/checker.py",
        "def _alerts(",
        "def _alerts(*_: object, **__: object) -> list[object]:\n    return []\n\n\ndef _never(",
        "tests/chaos/test_checker.py",
    ),
    Mutation(
        "the checker compares labels",
        "the checker itself",
        "tests/chaos/checker.py",
        "def _labels(",
        "def _labels(*_: object, **__: object) -> list[object]:\n    return []\n\n\ndef _never(",
        "tests/chaos/test_checker.py",
    ),
    Mutation(
        "the checker compares the state of entities",
        "the checker itself",
        "tests/chaos/checker.py",
        "def _entity(",
        "def _entity(*_: object, **__: object) -> list[object]:\n    return []\n\n\ndef _never(",
        "tests/chaos/test_checker.py",
    ),
    Mutation(
        "the checker works out each decision",
        "the checker itself",
        "tests/chaos/expected.py",
        "def expected_decision(",
        "def expected_decision(*_: object) -> list[object]:\n    return []\n\n\ndef _never(",
        "tests/chaos/test_checker.py",
    ),
    Mutation(
        "the checker works out each row",
        "the checker itself",
        "tests/chaos/checker.py",
        '            if wrong:\n                text = f"a row',
        '            if False:\n                text = f"a row',
        "tests/chaos/test_checker.py",
    ),
    Mutation(
        "a checkpoint is held against what it covers",
        "the checker itself",
        "tests/chaos/found.py",
        "return list(self._look(covered)) if covered else []",
        "return []",
        "tests/chaos/test_checker.py",
    ),
    Mutation(
        "a case without an injection fails",
        "the checker itself",
        "tests/chaos/registry.py",
        "    if not seen.injected:\n",
        "    if False:\n",
        "tests/chaos/test_verdict.py",
    ),
    Mutation(
        "a case with a difference fails",
        "the checker itself",
        "tests/chaos/registry.py",
        "    if seen.differences:\n",
        "    if False:\n",
        "tests/chaos/test_verdict.py",
    ),
)


class NoVerdictError(Exception):
    """What was to notice came to no end."""


def main() -> int:
    """Try every mutation that ``ONLY`` is part of; 0 when all were noticed."""
    wanted = os.environ.get("ONLY", "")
    chosen = [each for each in MUTATIONS if wanted in each.name]
    if not chosen:
        names = "\n  ".join(each.name for each in MUTATIONS)
        _say(f"ONLY={wanted} names no protection. There are:\n  {names}")
        return 2
    failures = [*_control(chosen), *_try_all(chosen)]
    _say(f"{len(chosen)} protections, {len(failures)} failures")
    return 1 if failures else 0


def _control(chosen: Sequence[Mutation]) -> Iterator[str]:
    """What is to notice passes while nothing is changed."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        copy = _copy(Path(name))
        for notices in dict.fromkeys(each.notices for each in chosen):
            noticed, output = _run(copy, notices)
            _say(f"{'FAILED' if noticed else 'ok':8} untouched  {notices}")
            if noticed:
                _say(output)
                yield notices


def _try_all(chosen: Sequence[Mutation]) -> Iterator[str]:
    for mutation in chosen:
        with tempfile.TemporaryDirectory(prefix="mutation-") as name:
            copy = _copy(Path(name))
            _mutate(copy, mutation)
            try:
                noticed, _ = _run(copy, mutation.notices)
            except NoVerdictError as error:
                _say(f"FAILED   without: {mutation.name}: {error}")
                yield mutation.name
                continue
        _say(
            f"{'ok' if noticed else 'FAILED':8} without: {mutation.name} ({mutation.guarantee}) "
            f"{'fails' if noticed else 'is not noticed by'} {mutation.notices}"
        )
        if not noticed:
            yield mutation.name


def _copy(folder: Path) -> Path:
    for name in _COPIED:
        shutil.copytree(
            ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in _FILES:
        shutil.copy2(ROOT / name, folder / name)
    return folder


def _mutate(copy: Path, mutation: Mutation) -> None:
    """Raises AssertionError where the protection is not found once, so that none goes stale."""
    path = copy / mutation.file
    text = path.read_text()
    times = text.count(mutation.found)
    assert times == 1, f"{mutation.name}: stands {times} times in {mutation.file}, expected once"
    changed = text.replace(mutation.found, mutation.changed)
    if path.suffix == ".py":
        # What cannot even be read would fail for the wrong reason.
        compile(changed, mutation.file, "exec")
    path.write_text(changed)


def _run(copy: Path, notices: str) -> tuple[bool, str]:
    """Whether *notices* fails in *copy*, and what it said. Raises NoVerdictError at no end."""
    is_path = notices.endswith(".py")
    arguments = ["pytest", "-x", "-q", "-p", "no:cacheprovider", notices] if is_path else []
    command = [sys.executable, "-m", *(arguments or ["tests.chaos"])]
    environment = {
        **os.environ,
        "PYTHONPATH": str(copy),
        "CHAOS_SEED": "20261",
        "ONLY": "" if is_path else notices,
    }
    try:
        done = subprocess.run(
            command,
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=_LIMIT_S,
        )
    except subprocess.TimeoutExpired as error:
        # It hung, and nothing said why: whatever that is, it is no notice.
        raise NoVerdictError(f"{notices}: no end within {_LIMIT_S} s") from error
    # 2 and more: nothing was run, which is no notice.
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.returncode == 1, done.stdout + done.stderr


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
