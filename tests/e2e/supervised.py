"""Run the daemon with the journal worker: ``python -m tests.e2e.supervised SETTINGS FOLDER``."""

import sys
from pathlib import Path

from consumer.logs import configure
from consumer.settings import Settings
from consumer.supervisor import Daemon, run_daemon

ROOT = Path(__file__).parents[2]


def main() -> int:
    settings = Settings.model_validate_json(Path(sys.argv[1]).read_text())
    folder = Path(sys.argv[2])
    configure("info", "json")
    command = [
        sys.executable,
        "-m",
        "tests.e2e.shard_worker",
        str(folder / "journal.jsonl"),
        str(settings.supervisor.run_dir),
    ]
    daemon = Daemon(settings, command, ROOT / "config" / "logback.xml", "0.0.0")
    return run_daemon(daemon)


if __name__ == "__main__":
    raise SystemExit(main())
