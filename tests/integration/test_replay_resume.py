"""A replay that is killed goes on exactly where it stood: equal bytes, whatever the moment."""

import platform
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest

from consumer.adapters.redis.connection import connect
from consumer.features.specification import parse_plan
from consumer.local.part import Part
from consumer.local.ports import listen
from consumer.local.redis_server import RedisServer
from tests.e2e.worker_process import write_models
from tests.replaying import (
    FEATURES,
    RULES,
    Event,
    Replayer,
    eventually,
    generate,
    read_state,
    write_history,
)

pytestmark = [
    pytest.mark.skipif(
        (platform.system(), platform.machine()) != ("Linux", "x86_64"),
        reason="the embedded Redis exists for Linux x86-64 only",
    ),
    pytest.mark.timeout(240),
]
# Slow enough to be hit in the middle, with a saved state every few hundred events.
PACE = ("--rate", "1800", "--save-every", "0.1s")
TRANSACTIONS = 4_000


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of two small real models."""
    folder = tmp_path_factory.mktemp("models")
    plan = parse_plan(FEATURES, source="features")
    models = write_models(folder, plan)
    command = ["consumer.local.endpoints"]
    for name, archive in models.items():
        command += ["--model", f"{name}={archive}"]
    part = Part("endpoints", command, listen(0, "endpoints"), directory=folder)
    try:
        part.await_ready("/ping")
        yield part.url
    finally:
        part.stop()


@pytest.fixture
def replayer(tmp_path: Path) -> Replayer:
    write_history(tmp_path / "history.ndjson", generate(TRANSACTIONS))
    return Replayer(tmp_path)


def await_beyond(reached: int, state: Path, process: "subprocess.Popen[bytes]") -> None:
    """Wait for a saved state beyond *reached*, or the end of the process."""

    def is_there() -> bool:
        return read_state(state).get("ordinal", 0) > reached or process.poll() is not None

    eventually(is_there, "a saved state beyond the last one")


def kill_and_resume(
    replayer: Replayer, words: tuple[str | Path, ...], state: Path, seed: int, times: int = 3
) -> int:
    """Kill the replay of *words* at random moments, then let it end; how far it was saved."""
    chance = random.Random(seed)
    resume: tuple[str, ...] = ()
    reached = 0
    for _ in range(times):
        process = replayer.start(*words, *PACE, *resume)
        await_beyond(reached, state, process)
        # Now in the middle of a chunk, now of a save.
        time.sleep(chance.uniform(0, 0.25))
        process.kill()
        assert process.wait() == -signal.SIGKILL, (replayer.folder / "replay.log").read_text()
        found = read_state(state)
        assert not found["finished"]
        reached = found["ordinal"]
        resume = ("--resume",)
    replayer.run(*words, *resume)
    return reached


def test_a_data_set_of_a_killed_replay_has_the_bytes_of_one_that_was_not(
    replayer: Replayer,
) -> None:
    history = replayer.folder / "history.ndjson"
    whole = replayer.run(history, "--to", "dataset", "whole.parquet", "--scratch")
    words = (history, "--to", "dataset", "killed.parquet", "--scratch")
    state = replayer.folder / "killed.parquet.replay" / "state.json"
    reached = kill_and_resume(replayer, words, state, seed=3)
    assert 0 < reached < whole["events"]
    expected = (replayer.folder / "whole.parquet").read_bytes()
    assert (replayer.folder / "killed.parquet").read_bytes() == expected
    table = pq.read_table(replayer.folder / "whole.parquet")
    assert table.num_rows == TRANSACTIONS
    assert table.column("fraud").null_count < TRANSACTIONS
    assert max(table.column("f_merchant_frauds_7d").to_pylist()) > 0


def test_decisions_of_a_killed_replay_have_the_bytes_of_one_that_was_not(
    replayer: Replayer, endpoints: str
) -> None:
    replayer.variables = {
        "FRAUDSTREAM_AWS__ENDPOINT_URL": endpoints,
        "FRAUDSTREAM_AWS__SAGEMAKER_RUNTIME_URL": endpoints,
    }
    # Ids that come again with other content: at another card, and where every entity knows them.
    events = generate(TRANSACTIONS)
    fields = [orjson.loads(each.data) for each in events if each.is_transaction][:2]
    others = [
        fields[0] | {"event_time": events[-1].time, "card_id": "other"},
        fields[1] | {"amount": 1.5},
    ]
    write_history(
        replayer.folder / "history.ndjson",
        [*events, *(Event(events[-1].time, orjson.dumps(each), True) for each in others)],
    )
    history = replayer.folder / "history.ndjson"
    whole = replayer.run(history, "--to", "engine", "whole.parquet", "--scratch")
    assert whole["counts"]["conflict"] == 2
    assert "existing" not in whole["counts"]
    assert whole["counts"]["decided"] == TRANSACTIONS
    told = (whole["counts"].get(name, 0) for name in ("approve", "review", "decline"))
    assert sum(told) == TRANSACTIONS
    assert "degraded" not in whole["counts"]
    words = (history, "--to", "engine", "killed.parquet", "--scratch")
    state = replayer.folder / "killed.parquet.replay" / "state.json"
    reached = kill_and_resume(replayer, words, state, seed=4)
    assert 0 < reached < whole["events"]
    expected = (replayer.folder / "whole.parquet").read_bytes()
    assert (replayer.folder / "killed.parquet").read_bytes() == expected
    columns = pq.read_table(replayer.folder / "whole.parquet")
    assert len(set(columns.column("transaction_id").to_pylist())) == len(columns) == TRANSACTIONS
    assert len(set(columns.column("anomaly_score").to_pylist())) > TRANSACTIONS / 2
    latency = pq.read_table(replayer.folder / "whole.latency.parquet")
    assert sum(latency.column("rows").to_pylist()) == TRANSACTIONS + len(others)


def test_decisions_are_not_gone_on_with_by_other_rules(replayer: Replayer, endpoints: str) -> None:
    rules = replayer.folder / "own-rules.yaml"
    rules.write_text(RULES)
    replayer.variables = {
        "FRAUDSTREAM_AWS__SAGEMAKER_RUNTIME_URL": endpoints,
        "FRAUDSTREAM_RULES__PATH": str(rules),
    }
    words = (replayer.folder / "history.ndjson", "--to", "engine", "o.parquet", "--scratch")
    state = replayer.folder / "o.parquet.replay" / "state.json"
    process = replayer.start(*words, *PACE)
    await_beyond(0, state, process)
    process.kill()
    process.wait()
    rules.write_text(RULES.replace("18.0", "1.0").replace("18}", "1}").replace("17}", "0}"))
    refused = replayer.attempt(*words, "--resume")
    assert refused.returncode == 2
    assert b"rules: found " in refused.stderr
    assert b"lists: found " not in refused.stderr
    rules.write_text(RULES)
    counts = replayer.run(*words, "--resume")["counts"]
    assert counts["decided"] == TRANSACTIONS


def test_a_backfill_that_was_killed_leaves_the_entity_state_of_one_that_was_not(
    replayer: Replayer,
) -> None:
    # One event that is not taken, before the first state is saved.
    events = generate(TRANSACTIONS)
    fields = orjson.loads(events[0].data) | {"transaction_id": "bad", "currency": "XXY"}
    bad = Event(events[0].time, orjson.dumps(fields), is_transaction=True)
    history = write_history(replayer.folder / "history.ndjson", [bad, *events])
    with RedisServer(modules=False, directory=replayer.folder / "redis") as server:
        replayer.variables = {"FRAUDSTREAM_REDIS__URL": server.url}
        client = connect(server.url, connect_timeout_s=2, timeout_s=10)
        replayer.run(history, "--to", "features")
        expected = {key: client.dump(key) for key in client.scan_iter("f:*", count=1_000)}
        client.flushall()
        state = replayer.folder / "replay-features.json"
        state.unlink()
        words = (history, "--to", "features")
        reached = kill_and_resume(replayer, words, state, seed=5, times=2)
        assert reached > 0
        assert read_state(state)["counts"]["rejected"] == 1
        found = {key: client.dump(key) for key in client.scan_iter("f:*", count=1_000)}
        client.close()
    assert found == expected
    assert len(found) > 40
    left = list((replayer.folder / "replay-features.work").rglob("*"))
    assert [path.name for path in left] == ["undecodable.ndjson"]
    assert len(left[0].read_bytes().splitlines()) == 1


def test_a_signal_ends_a_replay_at_a_place_from_which_it_goes_on(replayer: Replayer) -> None:
    history = replayer.folder / "history.ndjson"
    words = (history, "--to", "dataset", "out.parquet", "--scratch")
    replayer.run(history, "--to", "dataset", "whole.parquet", "--scratch")
    state = replayer.folder / "out.parquet.replay" / "state.json"
    process = replayer.start(*words, *PACE)
    eventually(lambda: read_state(state).get("ordinal", 0) > 0, "a saved state")
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 130
    told = (replayer.folder / "replay.log").read_text()
    assert "fraudstream replay" in told
    assert "--resume" in told
    stopped = read_state(state)
    assert not stopped["finished"]

    begun_anew = replayer.attempt(*words)
    assert begun_anew.returncode == 2
    assert b"--resume to go on with it, --restart to begin anew" in begun_anew.stderr
    other = replayer.attempt(*words, "--limit", "5", "--resume")
    assert other.returncode == 2
    assert b"selection: found limit=5, expected everything" in other.stderr

    replayer.run(*words, "--resume")
    expected = (replayer.folder / "whole.parquet").read_bytes()
    assert (replayer.folder / "out.parquet").read_bytes() == expected
    again = replayer.run(*words, "--resume")
    assert again["finished"], "resuming what is finished changes nothing"
