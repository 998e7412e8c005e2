"""What Java and the workers said last before something ended, kept while their lines pass by."""

import re
import threading
from collections.abc import Mapping

from consumer.java_log import JavaLine

# KCL 3.1.3, MultiLangShardRecordProcessor: logged within milliseconds of a worker's end.
_EXITED = re.compile(r"Child process exited with value: (-?\d+)")
# KCL 3.1.3, when something of its own failed before the worker was told of a delivery: the
# delivery is left out and the next one handed over. What a worker fails at is called otherwise.
_SKIPS = {
    "lifecycle.ShardConsumerSubscriber": "Caught exception from handleInput",
    "lifecycle.ProcessTask": "Caught exception:",
}
_TALK = ("error", "critical")
_SHOWN = 400


def skips_records(event: JavaLine) -> bool:
    """Whether *event* says that the KCL leaves out a delivery and goes on behind it."""
    said = _SKIPS.get(event.logger)
    return said is not None and said in event.message


class LastWords:
    """
    The last error of Java and of each shard's worker, and the exit codes Java saw.

    Written by the threads that read their output.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.forget()

    def forget(self) -> None:
        """Begin anew, with a new Java."""
        with self._changed:
            self._java = ""
            self._stderr = ""
            self._errors: dict[str, str] = {}
            self._exit_codes: list[int] = []

    def hear_java(self, event: JavaLine) -> None:
        """Note an event of Java's log."""
        exited = _EXITED.search(event.message)
        with self._changed:
            if exited is not None:
                self._exit_codes.append(int(exited.group(1)))
                self._changed.notify_all()
            elif event.level in _TALK:
                exception = f" ({event.exception})" if event.exception else ""
                self._java = f"{event.message}{exception}"[:_SHOWN]

    def hear_worker(self, event: Mapping[str, object] | None, line: str) -> None:
        """Note a line of standard error: a worker's *event*, or None where it is none."""
        with self._changed:
            if event is None:
                self._stderr = line[:_SHOWN]
            elif event.get("level") in _TALK:
                error = event.get("error") or str(event.get("exception", "")).rpartition("\n")[2]
                told = f"{event['event']}: {error}" if error else str(event["event"])
                self._errors[str(event.get("shard", ""))] = told[:_SHOWN]

    @property
    def java(self) -> str:
        """Java's last error."""
        return self._java

    def worker(self, shard_id: str) -> str:
        """The last error of the worker of *shard_id*, else the last line that was no event."""
        return self._errors.get(shard_id) or self._stderr

    def exit_codes(self, count: int, limit_s: float) -> list[int]:
        """What Java says that children ended with, other than well; waits for *count* of them."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._failures()) >= count, limit_s)
            return self._failures()

    def _failures(self) -> list[int]:
        return [code for code in self._exit_codes if code]
