"""What a worker said of itself: its metrics as a scrape would show them, and its log."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from prometheus_client.parser import text_string_to_metric_families

from consumer.metric_files import MetricFiles
from tests.chaos.shard import ShardRun


class ScrapedMetrics:
    """The metrics of all workers of *run*, dead ones too; made before the first of them starts."""

    def __init__(self, run: ShardRun) -> None:
        self._files = MetricFiles(run.log.with_suffix(".metrics"))
        directory = str(self._files.directory)
        run.environment = {**run.environment, "PROMETHEUS_MULTIPROC_DIR": directory}

    def read(self, name: str, **labels: str) -> float:
        """The sum of the samples *name* that carry *labels*; 0 without any."""
        text = self._files.exposition().decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


def read_log(run: ShardRun) -> Iterator[Mapping[str, Any]]:
    """The events that the workers of *run* logged, oldest first."""
    for line in run.log.read_bytes().splitlines():
        if line.startswith(b"{"):
            yield orjson.loads(line)


def assert_no_traceback(run: ShardRun) -> None:
    """Raises AssertionError when a worker of *run* ended in one, or was interrupted in words."""
    text = run.log.read_text(errors="replace")
    assert "Traceback" not in text, text[text.index("Traceback") :][:2_000]
