"""
A program in the place of the KCL's Java: ``python -m tests.integration.scripted_kcl FOLDER``.

It feeds one worker the lines of ``FOLDER/stream`` as records 1, 2, 3 …, keeps its
checkpoint in ``FOLDER/checkpoint``, drains it on SIGTERM, and says in the KCL's words what it
ended with. The worker is started as the KCL does it, by ``worker.sh`` in the present folder.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from consumer.model import Position
from tests.builders import SHARD
from tests.multilang import Delivered, MultilangDriver

DELIVERY = 20
_PAUSE_S = 0.05


def main() -> None:
    folder = Path(sys.argv[1])
    asked: list[int] = []

    def ask(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    signal.signal(signal.SIGTERM, ask)
    worker = subprocess.Popen(
        ["/bin/sh", "worker.sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    log("INFO", "coordinator.Scheduler", "Initialization complete. Starting worker loop.")
    driver = MultilangDriver(worker)
    saved = folder / "checkpoint"
    try:
        feed(driver, folder / "stream", int(saved.read_text()) if saved.exists() else 0, asked)
        driver.request_shutdown()
        driver.stop()
    except EOFError:
        code = worker.wait()
        told = 128 - code if code < 0 else code
        log("ERROR", "multilang.MultiLangShardRecordProcessor", "Child process failed")
        log(
            "INFO",
            "multilang.MultiLangShardRecordProcessor",
            f"Child process exited with value: {told}",
        )
        keep(driver, saved)
        # Java tries to stop its other workers first.
        time.sleep(20)
    keep(driver, saved)
    os._exit(143)


def feed(driver: MultilangDriver, stream: Path, after: int, asked: list[int]) -> None:
    """Deliver what comes after position *after*, then nothing again and again."""
    driver.initialize(SHARD, str(after) if after else "TRIM_HORIZON")
    lines = stream.read_bytes().splitlines()
    while not asked:
        now_ms = time.time_ns() // 1_000_000
        records = [
            Delivered(line, Position(number), now_ms)
            for number, line in enumerate(lines, 1)
            if number > after
        ][:DELIVERY]
        driver.deliver(records)
        if records:
            after = records[-1].position.sequence_number
        else:
            time.sleep(_PAUSE_S)


def keep(driver: MultilangDriver, saved: Path) -> None:
    """Keep the newest checkpoint, as DynamoDB would."""
    if driver.checkpoints and driver.checkpoints[-1] is not None:
        saved.write_text(str(driver.checkpoints[-1].sequence_number))


def log(level: str, logger: str, message: str) -> None:
    """Say *message* in the pattern of ``config/logback.xml``."""
    sys.stdout.write(f"time\t{level}\tsoftware.amazon.kinesis.{logger}\t\t{message}\t\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
