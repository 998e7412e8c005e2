"""Settings come from three places, and everything wrong with them is said at once."""

from pathlib import Path

import pytest

from consumer.configuration import load
from consumer.errors import Misconfigured, Problem
from consumer.settings import SHIPPED, Settings


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings file of the tree out of the tests."""
    monkeypatch.chdir(tmp_path)


def write(folder: Path, text: str, name: str = "fraudstream.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(path: Path | None, environment: dict[str, str] | None = None) -> list[Problem]:
    with pytest.raises(Misconfigured) as caught:
        load(path, environment or {})
    return list(caught.value.problems)


def test_without_file_and_variables_every_value_is_its_default() -> None:
    configuration = load(environment={})

    assert configuration.settings == Settings()
    assert configuration.path is None
    assert set(configuration.origins.values()) == {"default"}


def test_a_file_wins_over_the_default_and_a_variable_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "kcl:\n  stream_name: cards\n  max_records: 500\n")

    configuration = load(path, {"FRAUDSTREAM_KCL__MAX_RECORDS": "700"})

    assert configuration.settings.kcl.stream_name == "cards"
    assert configuration.settings.kcl.max_records == 700
    assert configuration.origins["kcl.stream_name"] == f"{path}:2"
    variable = "environment variable FRAUDSTREAM_KCL__MAX_RECORDS"
    assert configuration.origins["kcl.max_records"] == variable
    assert configuration.origins["kcl.application_name"] == "default"


def test_the_folder_config_is_looked_into_first(tmp_path: Path) -> None:
    write(tmp_path / "config", "kcl: {stream_name: found}\n")

    configuration = load(environment={})

    assert configuration.path == Path("config/fraudstream.yaml")
    assert configuration.settings.kcl.stream_name == "found"


def test_one_value_of_a_nested_section_leaves_its_neighbours_at_their_defaults() -> None:
    scoring = load(environment={"FRAUDSTREAM_SCORING__ANOMALY__MAX_ROWS": "7"}).settings.scoring

    assert scoring.anomaly.max_rows == 7
    assert scoring.anomaly.name == Settings().scoring.anomaly.name
    assert scoring.fraud == Settings().scoring.fraud


def test_a_variable_holds_a_list_as_json_and_null_as_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, "aws: {endpoint_url: 'http://localhost:1'}\n")

    settings = load(
        path,
        {
            "FRAUDSTREAM_KCL__JAVA_OPTIONS": '["-Xmx1g", "-Da=b,c"]',
            "FRAUDSTREAM_AWS__ENDPOINT_URL": "null",
        },
    ).settings

    assert settings.kcl.java_options == ("-Xmx1g", "-Da=b,c")
    assert settings.aws.endpoint_url is None


def test_an_empty_variable_counts_as_not_set() -> None:
    configuration = load(environment={"FRAUDSTREAM_AWS__REGION": ""})

    assert configuration.settings.aws.region == Settings().aws.region
    assert configuration.origins["aws.region"] == "default"


def test_a_section_whose_keys_are_commented_out_is_empty(tmp_path: Path) -> None:
    path = write(tmp_path, "kcl:\n  # stream_name: cards\nlogs:\n  level: debug\n")

    assert load(path, {}).settings.kcl == Settings().kcl


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file_sets_nothing(tmp_path: Path, text: str) -> None:
    assert load(write(tmp_path, text), {}).settings == Settings()


def test_a_relative_path_starts_from_the_folder_of_its_file(tmp_path: Path) -> None:
    path = write(tmp_path / "etc", "features: {path: mine.yaml}\nsupervisor: {run_dir: /run/x}\n")

    settings = load(path, {}).settings

    assert settings.features.path == tmp_path / "etc" / "mine.yaml"
    assert settings.supervisor.run_dir == Path("/run/x")


def test_a_relative_path_in_a_variable_starts_from_the_working_directory(tmp_path: Path) -> None:
    path = write(tmp_path / "etc", "features: {path: mine.yaml}\n")

    settings = load(path, {"FRAUDSTREAM_FEATURES__PATH": "other.yaml"}).settings

    assert settings.features.path == Path("other.yaml")


def test_without_a_file_the_shipped_features_are_used() -> None:
    assert load(environment={}).settings.features.path == SHIPPED / "features.yaml"
    assert (SHIPPED / "features.yaml").is_file()


def test_every_problem_of_both_sources_is_reported_at_once_and_in_place(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "kcl:\n"
        "  stream_nane: cards\n"
        "  max_records: many\n"
        "decision:\n"
        "  fraud_review: 0.95\n"
        "worker: 3\n",
    )

    found = problems_of(
        path,
        {
            "FRAUDSTREAM_SUPERVISOR__PORT": "99999",
            "FRAUDSTREAM_REDS__URL": "redis://somewhere",
        },
    )

    assert {(problem.source, problem.key) for problem in found} == {
        (f"{path}:2", "kcl.stream_nane"),
        (f"{path}:3", "kcl.max_records"),
        (f"{path}:5", "decision.fraud_review"),
        (f"{path}:6", "worker"),
        ("environment variable FRAUDSTREAM_SUPERVISOR__PORT", "supervisor.port"),
        ("environment", "FRAUDSTREAM_REDS__URL"),
    }
    by_key = {problem.key: problem for problem in found}
    assert by_key["kcl.stream_nane"].expected == "kcl.stream_name?"
    assert by_key["kcl.max_records"].found == "'many'"
    assert "integer" in by_key["kcl.max_records"].expected
    assert by_key["decision.fraud_review"].found == "0.95"
    assert "decision.fraud_decline (0.9)" in by_key["decision.fraud_review"].expected
    assert by_key["FRAUDSTREAM_REDS__URL"].expected == "FRAUDSTREAM_REDIS__URL?"


def test_a_key_in_the_wrong_place_is_told_where_it_belongs(tmp_path: Path) -> None:
    (problem,) = problems_of(write(tmp_path, "stream_name: cards\n"))

    assert problem.expected == "kcl.stream_name or firehose.stream_name?"


def test_a_key_that_stands_twice_is_a_problem(tmp_path: Path) -> None:
    path = write(tmp_path, "logs:\n  level: info\naws: {region: x}\nlogs:\n  format: json\n")

    (problem,) = problems_of(path)

    assert (problem.source, problem.key) == (f"{path}:4", "logs")
    assert "line 1" in problem.expected


@pytest.mark.parametrize(
    ("text", "source", "found"),
    [
        ("kcl:\n  stream_name: [a\n", ":3:1", "expected ',' or ']'"),
        ("kcl:\n\tstream_name: a\n", ":2:1", "cannot start any token"),
        ("- a\n- b\n", ":1", "a list"),
        ("just words\n", ":1", "a single value"),
        ("a: !!python/object:os.system x\n", ":1:4", "could not determine a constructor"),
        ("a: 2026-13-45\n", ":1:4", "month must be in 1..12"),
        ("a: \x07\n", "", "unacceptable character"),
        ("redis: !!bool x\n", ":1:8", "'x' as bool"),
        ("redis: " + "[" * 5_000, ":1:39", "deeper nesting"),
        ("redis: &a {url: *a}\n", ":1:8", "contains itself"),
    ],
)
def test_what_is_no_settings_file_is_told_with_its_line(
    tmp_path: Path, text: str, source: str, found: str
) -> None:
    path = write(tmp_path, text)

    (problem,) = problems_of(path)

    assert problem.source == f"{path}{source}"
    assert found in problem.found


def test_a_named_file_that_is_missing_is_a_problem(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path / "nowhere.yaml")

    assert "nowhere.yaml" in problem.source
    assert "No such file" in problem.found


def test_bytes_that_are_no_text_are_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "fraudstream.yaml"
    path.write_bytes(b"aws:\n  region: \xff\n")

    (problem,) = problems_of(path)

    assert "UTF-8" in problem.found


def test_a_value_of_the_environment_that_is_no_json_is_a_problem_among_others() -> None:
    found = problems_of(
        None, {"FRAUDSTREAM_KCL__JAVA_OPTIONS": "-Xmx1g", "FRAUDSTREAM_KCL__MAX_RECORDS": "0"}
    )

    assert {problem.key for problem in found} == {"kcl.java_options", "kcl.max_records"}
    assert any(problem.expected.startswith("a list") for problem in found)


def test_variables_of_others_and_of_the_tests_are_left_alone() -> None:
    load(environment={"FRAUDSTREAM_DATA": "/data", "FRAUD": "x", "REDIS_URL": "y"})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("FRAUDSTREAM_CONFIG", "the option --config PATH of each command"),
        ("FRAUDSTREAM_NONSENSE", "FRAUDSTREAM_<section>__<key>"),
    ],
)
def test_a_variable_that_is_like_no_setting_gets_no_odd_hint(name: str, expected: str) -> None:
    (problem,) = problems_of(None, {name: "x"})
    assert (problem.key, problem.expected) == (name, expected)


@pytest.mark.parametrize(
    ("environment", "key"),
    [
        ({"REDIS__URL": "http://:hunter2@cache"}, "redis.url"),
        ({"REDIS__FEATURES_URL": "hunter2"}, "redis.features_url"),
        ({"AWS__ENDPOINT_URL": "ftp://me:hunter2@host"}, "aws.endpoint_url"),
        ({"REDIS__PASSWORD": "hunter2"}, "FRAUDSTREAM_REDIS__PASSWORD"),
    ],
)
def test_a_problem_never_shows_a_password(environment: dict[str, str], key: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        load(environment={f"FRAUDSTREAM_{name}": value for name, value in environment.items()})

    (problem,) = caught.value.problems
    assert problem.key == key
    assert "hunter2" not in str(caught.value)


def test_an_unknown_key_never_shows_its_value(tmp_path: Path) -> None:
    path = write(tmp_path, "redis:\n  passwort: hunter2\nsecrets:\n  redis: hunter2\n")

    assert not any("hunter2" in str(problem) for problem in problems_of(path))


@pytest.mark.parametrize(
    ("environment", "key"),
    [
        ({"KCL__FAILOVER_TIME_MS": "100"}, "kcl.idle_time_between_reads_ms"),
        ({"KCL__SHUTDOWN_GRACE_MS": "300000"}, "kcl.shutdown_grace_ms"),
        ({"REDIS__TIMEOUT_S": "120"}, "redis.timeout_s"),
        ({"REDIS__OUTAGE_LIMIT_S": "300"}, "redis.outage_limit_s"),
        (
            {"REDIS__WAIT_TIMEOUT_MS": "2000", "REDIS__WAIT_REPLICAS": "1"},
            "redis.wait_timeout_ms",
        ),
        (
            {"FIREHOSE__SPILL__AFTER_S": "120", "FIREHOSE__SPILL__BUCKET": "analytics"},
            "firehose.spill.after_s",
        ),
        ({"REDIS__DOCUMENT_TTL_S": "86400"}, "redis.document_ttl_s"),
        ({"SCORING__ANOMALY__NAME": "fraudstream-fraud"}, "scoring.anomaly.name"),
        ({"SCORING__EXPLANATIONS": "endpoint"}, "scoring.explanation_endpoint"),
        ({"SCORING__EXPLANATION_ENDPOINT": "fraudstream-fraud"}, "scoring.explanation_endpoint"),
        ({"SCORING__CONNECT_TIMEOUT_MS": "251"}, "scoring.connect_timeout_ms"),
        ({"DECISION__FRAUD_DECLINE": "0.4"}, "decision.fraud_review"),
        ({"WORKER__PROGRESS_LIMIT_S": "150.5"}, "worker.progress_limit_s"),
        ({"SUPERVISOR__RESTART_BACKOFF_S": "31"}, "supervisor.restart_backoff_s"),
        ({"SUPERVISOR__LEASE_LIMIT_S": "200"}, "supervisor.lease_limit_s"),
    ],
)
def test_values_that_contradict_each_other_are_refused(
    environment: dict[str, str], key: str
) -> None:
    variables = {f"FRAUDSTREAM_{name}": value for name, value in environment.items()}

    (problem,) = problems_of(None, variables)

    assert problem.key == key
    # Told where the value was set that made the contradiction, whichever of the two it is.
    assert problem.source == f"environment variable {next(iter(variables))}"


def test_the_defaults_do_not_contradict_each_other() -> None:
    load(environment={})


def test_a_value_that_is_wrong_by_itself_makes_no_contradiction_as_well() -> None:
    (problem,) = problems_of(
        None,
        {
            "FRAUDSTREAM_DECISION__FRAUD_DECLINE": "high",
            "FRAUDSTREAM_DECISION__FRAUD_REVIEW": ".95",
        },
    )

    assert problem.key == "decision.fraud_decline"


@pytest.mark.parametrize("pattern", ["(", "[a-"])
def test_an_id_pattern_that_is_no_regular_expression_is_refused(pattern: str) -> None:
    (problem,) = problems_of(None, {"FRAUDSTREAM_EVENTS__ID_PATTERN": pattern})

    assert problem.expected.startswith("a regular expression")
