import shlex
import socket
import subprocess
from pathlib import Path

import pytest

from consumer.multilang import build_properties, prepare_launch, render_properties, worker_id
from consumer.settings import Settings


def _settings(**sections: dict[str, object]) -> Settings:
    return Settings.model_validate(sections)


def test_the_worker_id_is_the_host_name_unless_it_is_set() -> None:
    assert worker_id(Settings()) == socket.gethostname()
    assert worker_id(_settings(kcl={"worker_id": "a"})) == "a"


def test_what_the_kcl_would_choose_badly_is_always_written() -> None:
    properties = build_properties(Settings())
    assert properties["retrievalMode"] == "POLLING"
    assert properties["callProcessRecordsEvenForEmptyRecordList"] == "true"
    assert properties["timeoutInSeconds"] == "300"
    assert properties["shutdownGraceMillis"] == "20000"
    assert properties["AwsCredentialsProvider"] == "DefaultCredentialsProvider"


@pytest.mark.parametrize(
    ("failover_ms", "look_ms"), [(10_000, 5_000), (2_000, 1_000), (1_000, 1_000)]
)
def test_leases_that_nobody_renews_are_looked_for_twice_in_a_failover_time(
    failover_ms: int, look_ms: int
) -> None:
    settings = _settings(kcl={"failover_time_ms": failover_ms, "idle_time_between_reads_ms": 100})
    properties = build_properties(settings)
    assert properties["leaseAssignmentIntervalMillis"] == str(look_ms)
    # Evened out once in six failover times, as without the one above.
    assert int(properties["varianceBalancingFrequency"]) * 5_000 == 6 * 10_000


@pytest.mark.parametrize(("failover_ms", "timeout"), [(10_000, "PT5S"), (2_000, "PT1S")])
def test_a_call_of_dynamodb_ends_before_the_lease_that_it_holds_up_does(
    failover_ms: int, timeout: str
) -> None:
    properties = build_properties(_settings(kcl={"failover_time_ms": failover_ms}))
    assert properties["dynamoDbClient.overrideConfiguration.apiCallTimeout"] == timeout


def test_polling_properties_are_left_out_of_fan_out() -> None:
    properties = build_properties(_settings(kcl={"retrieval_mode": "FANOUT"}))
    assert properties["retrievalMode"] == "FANOUT"
    assert not {"maxRecords", "idleTimeBetweenReadsInMillis"} & properties.keys()


def test_no_address_is_written_on_aws() -> None:
    assert not {"kinesisEndpoint", "dynamoDBEndpoint"} & build_properties(Settings()).keys()


def test_dynamodb_may_be_elsewhere() -> None:
    settings = _settings(
        aws={"endpoint_url": "http://127.0.0.1:1"},
        kcl={"dynamodb_endpoint_url": "http://127.0.0.1:2"},
    )
    properties = build_properties(settings)
    assert properties["kinesisEndpoint"] == "http://127.0.0.1:1"
    assert properties["dynamoDBEndpoint"] == "http://127.0.0.1:2"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain = : # !", "plain = : # !"),
        ("back\\slash", "back\\\\slash"),
        (" leading", "\\ leading"),
        ("two\nlines", "two\\u000alines"),
        ("é😀", "\\u00e9\\ud83d\\ude00"),
    ],
)
def test_values_are_escaped_as_java_reads_them(value: str, written: str) -> None:
    assert render_properties({"name": value}) == f"name = {written}\n"


def test_emulators_get_no_cbor_and_aws_does(tmp_path: Path) -> None:
    supervisor: dict[str, object] = {"run_dir": str(tmp_path / "run dir")}
    logback = tmp_path / "logback.xml"
    logback.write_text("<configuration/>")
    emulated = prepare_launch(
        _settings(aws={"endpoint_url": "http://127.0.0.1:1"}, supervisor=supervisor),
        Path("/usr/bin/java"),
        logback,
        ["true"],
        {"A": "b"},
    )
    assert "-Daws.cborEnabled=false" in emulated.command
    assert emulated.environment == {"A": "b", "AWS_CBOR_DISABLE": "1"}
    real = prepare_launch(
        _settings(supervisor=supervisor), Path("/usr/bin/java"), logback, ["true"], {"A": "b"}
    )
    assert "-Daws.cborEnabled=false" not in real.command
    assert real.environment == {"A": "b"}


def test_the_worker_command_survives_spaces_and_quotes(tmp_path: Path) -> None:
    logback = tmp_path / "logback.xml"
    logback.write_text("<configuration/>")
    settings = _settings(supervisor={"run_dir": str(tmp_path / "run dir")})
    command = ["printf", "%s|", "it's", "a b", "$HOME"]
    launch = prepare_launch(settings, Path("/usr/bin/java"), logback, command, {})
    started = subprocess.run(
        shlex.split(build_properties(settings)["executableName"]),
        cwd=launch.folder,
        capture_output=True,
        check=True,
    )
    assert started.stdout == b"it's|a b|$HOME|"
