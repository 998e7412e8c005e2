"""
The daemon on the real KCL under traffic and chance faults for a while: ``make soak``.

Round after round sends traffic to both shards, with a fault that chance chooses or none,
and compares the whole state. ``MINUTES`` is how long (default 30), ``CHAOS_SEED`` repeats a
run. ``.chaos/soak.json`` holds a line a round: what was injected, what was found wrong, how
much memory the workers and Redis take.
"""

import os
import random
import sys
import tempfile
import time
from pathlib import Path

import orjson

from tests.chaos.checker import describe
from tests.chaos.faults import Act, Fault, Port, When
from tests.chaos.kcl import KclArena, Session, open_session
from tests.chaos.lab import ROOT, open_lab
from tests.chaos.traffic import Mix

_REPORT = ROOT / ".chaos" / "soak.json"
_PORTS = (Port.OBSERVE, Port.DECIDE, Port.PUT, Port.PUBLISH, Port.ACKNOWLEDGE, Port.CHECKPOINT)
# A kill restarts the KCL, which is most of what a round then costs.
_ACTS = (Act.DIE, Act.UNAVAILABLE, Act.UNAVAILABLE, Act.UNAVAILABLE)


def main() -> int:
    """Run to the end of the time or the first difference; 0 or 1."""
    minutes = float(os.environ.get("MINUTES") or 30)
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    _say(f"CHAOS_SEED={seed}, {minutes:g} minutes; logs in {folder}")
    rounds: list[dict[str, object]] = []
    with open_lab(folder / "lab") as lab, open_session(lab, folder / "kcl", seed) as session:
        end_s = time.monotonic() + minutes * 60
        while time.monotonic() < end_s:
            done, wrong = _round(session, seed, len(rounds) + 1)
            rounds.append(done)
            _write(seed, rounds)
            _say("  ".join(f"{name} {value}" for name, value in done.items()))
            if wrong:
                _say(wrong)
                return 1
    _say(f"{len(rounds)} rounds, nothing lost, nothing counted twice; {_REPORT}")
    return 0


def _round(session: Session, seed: int, number: int) -> tuple[dict[str, object], str]:
    """Send, wait, compare; return what the report says and what is wrong, in words."""
    arena = KclArena(session, f"round-{number}", seed)
    plan = _chance(arena.choice)
    arena.plan(*plan)
    started_s = time.monotonic()
    arena.send(Mix(transactions=400, hot=number % 2 == 0))
    differences = arena.differences()
    done: dict[str, object] = {
        "round": number,
        "seconds": round(time.monotonic() - started_s, 1),
        "sent": arena.sent,
        "planned": [f"{fault.act} {fault.when} {fault.port}" for fault in plan],
        "injected": len(arena.injected()),
        "differences": len(differences),
        "worker_mb": [_resident_mb(pid) for pid in session.daemon.workers()],
        "redis_mb": round(int(session.lab.redis.info("memory")["used_memory"]) / 1e6, 1),
    }
    return done, describe(differences)


def _chance(choice: random.Random) -> list[Fault]:
    """None, one or two faults somewhere on the path."""
    return [
        Fault(
            choice.choice(_PORTS),
            choice.randint(1, 6),
            choice.choice(list(When)),
            choice.choice(_ACTS),
            times=1,
        )
        for _ in range(choice.choice((0, 1, 1, 2)))
    ]


def _resident_mb(pid: int) -> float:
    """Resident memory of *pid* as in proc(5); 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except FileNotFoundError:
        return 0.0
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _write(seed: int, rounds: list[dict[str, object]]) -> None:
    _REPORT.parent.mkdir(exist_ok=True)
    _REPORT.write_bytes(orjson.dumps({"seed": seed, "rounds": rounds}, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    raise SystemExit(main())
