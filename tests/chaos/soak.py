"""
Faults by chance for as long as asked, everything compared: ``make soak MINUTES=n``.

``TIER=worker`` (the default) works hundreds of thousands of transactions through the real
worker process under a played KCL: a ``kill -9`` every five to ten seconds at any moment, and
at a lower rate cuts of Redis, failures of endpoints, Firehose and S3, throttled checkpoints,
SIGSTOP and SIGCONT, and two owners of the shard. ``TRANSACTIONS=`` goes on until there were
so many, even past the minutes.

``TIER=kcl`` runs the daemon on the real KCL under steady traffic on two shards, and kills the
worker, Java, the supervisor or all of them whenever the daemon has been ready for 20 seconds.
It measures how long no decision was made, which may be 15 s under the same worker id and
150 s under a new one.

``CHAOS_SEED=`` repeats the choices of a run, though not their moments. The report is
``.chaos/soak.json``, the newest run of each tier. The exit code is 1 when anything was lost,
counted twice, made up or dead-lettered as ``crashed``, or a recovery took too long.
"""

import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from tests.chaos.lab import ROOT, open_lab
from tests.chaos.registry import Tier
from tests.chaos.soak_kcl import open_kcl_tier
from tests.chaos.soak_report import Account
from tests.chaos.soak_worker import WorkerTier

_REPORT = ROOT / ".chaos" / "soak.json"


def main() -> int:
    """Run to the end of the time or the first epoch with a difference; 0 or 1."""
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.default_int_handler)
    minutes = float(os.environ.get("MINUTES") or 10)
    transactions = int(os.environ.get("TRANSACTIONS") or 0)
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))
    account = Account(Tier(os.environ.get("TIER") or Tier.WORKER), seed)
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    _say(f"TIER={account.tier} CHAOS_SEED={seed}, {minutes:g} minutes; logs in {folder}")
    started_s = time.monotonic()
    end_s = started_s + minutes * 60
    try:
        with _epochs(account, folder, end_s) as epochs:
            for _ in epochs:
                account.minutes = (time.monotonic() - started_s) / 60
                _show(account)
                enough = time.monotonic() >= end_s and account.transactions >= transactions
                if enough or account.differences:
                    break
    except (Exception, KeyboardInterrupt):  # noqa: BLE001 - the report says what ended the run
        account.failure = traceback.format_exc(limit=8)
    account.minutes = (time.monotonic() - started_s) / 60
    _show(account)
    _say(f"{account.describe()}\n{_REPORT}")
    return 1 if account.problems() else 0


@contextmanager
def _epochs(account: Account, folder: Path, end_s: float) -> Iterator[Iterator[Account]]:
    with open_lab(folder / "lab") as lab:
        if account.tier is Tier.WORKER:
            yield WorkerTier(lab, folder, account).epochs()
            return
        with open_kcl_tier(lab, folder / "kcl", account) as tier:
            yield tier.epochs(end_s)


def _show(account: Account) -> None:
    _REPORT.parent.mkdir(exist_ok=True)
    known = orjson.loads(_REPORT.read_bytes()) if _REPORT.exists() else {}
    body = {**known, account.tier.value: account.as_json()}
    _REPORT.write_bytes(orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    _say(
        f"{account.minutes:6.1f} min  epoch {account.epochs}: {account.transactions:,} "
        f"transactions, {account.faults.total():,} faults, {account.restarts.total():,} restarts, "
        f"{account.differences.total():,} differences"
    )


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
