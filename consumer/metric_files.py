"""
The metric files of worker processes: added up for a scrape, folded when one dies.

``prometheus_client`` gives every process a file a metric type and never removes
one, because a counter that lost a file would go backwards. As shards come and go
those files would pile up, so the files of a dead process are added to an
archive of the same format, which no process id can have, and then removed.
"""

import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from consumer.disk import on_disk, reserve
from consumer.logs import get_logger

NOTHING: Final = -math.inf
"""
What a process sets a gauge of the highest to where it has nothing to say.

A series cannot be removed from a file, and NaN would hide what other processes say: nothing
is higher than it. A scrape leaves this value out.
"""

# Process 0 is the kernel's; the collector takes whatever stands at this place.
_ARCHIVE = "0"
_FOLDED_TYPES = ("counter", "histogram", "summary")
# All that ``Metrics`` has: a counter or histogram, and a gauge by how a scrape joins it.
_KINDS = ("counter", "histogram", "gauge_livemax", "gauge_livemin", "gauge_livesum")
# Histograms of a worker take 20 KB, counters 5 KB and some 200 bytes more a rule.
_ROOM_BYTES = 262_144


def reserve_metric_files() -> None:
    """
    Give the metric files of this process their room; before the first metric is made.

    ``prometheus_client`` maps files with holes, see ``disk.py``; those that are there it
    takes up as they are. Raises Unavailable where there is no room.
    """
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not directory:
        return
    for kind in _KINDS:
        path = Path(directory) / f"{kind}_{os.getpid()}.db"
        with on_disk(path), path.open("ab") as file:
            reserve(file, _ROOM_BYTES)


class _Said(Collector):
    """What the processes of a directory say, without ``NOTHING``."""

    def __init__(self, directory: str) -> None:
        self._collector = MultiProcessCollector(None, path=directory)  # type: ignore[no-untyped-call]

    def collect(self) -> Iterator[Metric]:
        for metric in self._collector.collect():  # type: ignore[no-untyped-call]
            metric.samples = [each for each in metric.samples if each.value != NOTHING]
            yield metric


class MetricFiles:
    """The directory that workers find in ``PROMETHEUS_MULTIPROC_DIR``."""

    def __init__(self, directory: Path) -> None:
        """Create *directory*, or empty it of an earlier run's files."""
        self.directory = directory
        # A scrape between adding to the archive and removing the file would
        # count the dead process twice.
        self._lock = threading.Lock()
        directory.mkdir(parents=True, exist_ok=True)
        for path in directory.glob("*.db"):
            path.unlink()

    def exposition(self) -> bytes:
        """The sum over all processes, dead ones included, in Prometheus's text format."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Said(str(self.directory)))
        with self._lock:
            return generate_latest(registry)

    def fold_dead(self, live_pids: Callable[[], Iterable[int]]) -> None:
        """
        Add the files of every process not in *live_pids* to the archive and remove them.

        The files are listed before it is asked who lives, so that a process that
        starts in between keeps its files.
        """
        with self._lock:
            paths = sorted(self.directory.glob("*.db"))
            keep = {str(pid) for pid in live_pids()} | {_ARCHIVE}
            for path in paths:
                kind, _, rest = path.stem.partition("_")
                pid = rest.rpartition("_")[2]
                if pid in keep:
                    continue
                try:
                    if kind in _FOLDED_TYPES:
                        self._add_to_archive(kind, path)
                    path.unlink()
                except OSError as error:
                    # It stays, and is added up as it is, until there is room.
                    reason = error.strerror
                    get_logger(__name__).warning("a metric file was not folded", reason=reason)

    def _add_to_archive(self, kind: str, path: Path) -> None:
        place = self.directory / f"{kind}_{_ARCHIVE}.db"
        with place.open("ab") as file:
            reserve(file, _ROOM_BYTES)
        archive = MmapedDict(str(place))  # type: ignore[no-untyped-call]
        try:
            for key, value, _, _ in MmapedDict.read_all_values_from_file(str(path)):  # type: ignore[no-untyped-call]
                before, _ = archive.read_value(key)  # type: ignore[no-untyped-call]
                archive.write_value(key, before + value, 0.0)  # type: ignore[no-untyped-call]
        finally:
            archive.close()  # type: ignore[no-untyped-call]
