"""
Run the daemon with a worker of the tests.

``python -m tests.e2e.supervised SETTINGS FOLDER [NAME]``; without a NAME it is the journal worker.
"""

import sys
from contextlib import ExitStack
from pathlib import Path

from consumer.inspection import open_fleet
from consumer.logs import configure
from consumer.settings import Settings
from consumer.supervisor import Daemon, run_daemon

_WITHOUT_NAME = 3
ROOT = Path(__file__).parents[2]


def main() -> int:
    settings = Settings.model_validate_json(Path(sys.argv[1]).read_text())
    folder = Path(sys.argv[2])
    configure("info", "json")
    command = [sys.executable, "-m"]
    if len(sys.argv) > _WITHOUT_NAME:
        command += [f"tests.e2e.{sys.argv[3]}", sys.argv[1], str(folder)]
    else:
        run_dir = str(settings.supervisor.run_dir)
        command += ["tests.e2e.shard_worker", str(folder / "journal.jsonl"), run_dir]
    with ExitStack() as stack:
        # Only the embedded AWS is looked at.
        fleet = open_fleet(settings, stack) if settings.aws.endpoint_url else None
        logback = ROOT / "config" / "logback.xml"
        return run_daemon(Daemon(settings, command, logback, "0.0.0", fleet=fleet))


if __name__ == "__main__":
    raise SystemExit(main())
