"""What lines of the KCL's log mean."""

import pytest

from consumer.java_log import JavaLine
from consumer.last_words import skips_records


@pytest.mark.parametrize(
    ("level", "logger", "message"),
    [
        ("warning", "lifecycle.ShardConsumerSubscriber", "s: Caught exception from handleInput"),
        ("error", "lifecycle.ProcessTask", "ShardId s: Caught exception:"),
    ],
)
def test_a_delivery_that_the_kcl_leaves_out_is_noticed(
    level: str, logger: str, message: str
) -> None:
    assert skips_records(JavaLine(level, logger, "s", message, "java.lang.Error"))


@pytest.mark.parametrize(
    ("logger", "message"),
    [
        # A worker that died, which ends Java by itself.
        ("lifecycle.ProcessTask", "ShardId s: Application processRecords() threw an exception"),
        ("lifecycle.ShutdownTask", "ShardId s: Caught exception:"),
        ("leases.ShardSyncTask", "Caught exception while sync'ing Kinesis shards and leases"),
    ],
)
def test_other_trouble_of_the_kcl_is_its_own(logger: str, message: str) -> None:
    assert not skips_records(JavaLine("error", logger, "s", message, "java.lang.Error"))
