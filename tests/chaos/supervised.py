"""The daemon with the faulty worker, set by ``FRAUDSTREAM_`` variables alone."""

import sys

from consumer.configuration import load
from consumer.logs import configure
from consumer.settings import SHIPPED
from consumer.supervisor import Daemon, run_daemon


def main() -> int:
    settings = load(SHIPPED / "fraudstream.yaml").settings
    configure("info", "json")
    command = [sys.executable, "-m", "tests.chaos.faulty_worker"]
    return run_daemon(Daemon(settings, command, SHIPPED / "logback.xml", "0.0.0"))


if __name__ == "__main__":
    raise SystemExit(main())
