"""Training jobs: one by its name, waited for, explained when they fail."""

from dataclasses import replace

import pytest

from consumer.deployment.calls import Refused
from consumer.deployment.endpoints import Place
from consumer.deployment.jobs import Machine, TrainingJob, check_forest, plan_job, start_job
from consumer.deployment.naming import INPUT, check_name
from consumer.deployment.servables import Images, from_job
from consumer.deployment.waiting import Watch, await_job, read_log_tail
from consumer.errors import Misconfigured, Unavailable
from consumer.feature_hash import TAG
from tests.fakes.clock import FakeClock
from tests.fakes.control import FakeControl

ROLE = "arn:aws:iam::123456789012:role/fraudstream"
IMAGES = Images("account/sagemaker-xgboost:3.0-5", "account/randomcutforest:1", None)
HASH = "a" * 64
JOB = TrainingJob(
    name="fraud-2026-11",
    kind="fraud",
    image=IMAGES.xgboost,
    hyperparameters={"num_round": "100", "objective": "binary:logistic"},
    channels={"train": "s3://bucket/rows/train/", "validation": "s3://bucket/rows/validation/"},
    output="s3://bucket/jobs/",
    data="0123456789abcdef",
    feature_hash=HASH,
    place=Place(ROLE),
    machine=Machine("ml.m5.xlarge", 30, 7_200),
)


def watch(told: list[str] | None = None) -> Watch:
    clock = FakeClock()
    return Watch(clock, clock.sleep, (lambda _: None) if told is None else told.append)


def test_a_job_is_tagged_with_its_input_and_its_features() -> None:
    control = FakeControl()
    assert start_job(control, JOB)
    tags = control.tags[control.jobs[JOB.name]["TrainingJobArn"]]
    assert (tags[INPUT], tags[TAG]) == (JOB.input, HASH)


def test_a_job_told_again_with_the_same_input_is_the_same_job() -> None:
    control = FakeControl()
    assert start_job(control, JOB)
    assert not start_job(control, JOB)
    assert control.told == ["create_training_job"]


def test_a_job_of_the_same_name_with_another_input_is_refused_by_what_differs() -> None:
    control = FakeControl()
    start_job(control, JOB)
    deeper = replace(JOB, hyperparameters={**JOB.hyperparameters, "max_depth": "9"})
    with pytest.raises(Misconfigured, match="a training job of other hyperparameters max_depth"):
        start_job(control, deeper)
    with pytest.raises(Misconfigured, match="a training job of other rows or image"):
        start_job(control, replace(JOB, data="fedcba9876543210"))
    assert control.told == ["create_training_job"]


def test_another_machine_or_place_is_the_same_input() -> None:
    other = replace(JOB, machine=Machine("ml.m5.4xlarge", 50, 60), output="s3://other/")
    assert other.input == JOB.input


class LosesAnswers(FakeControl):
    """Does what it is told, and the answer is lost: the repeated call is refused."""

    def _create_training_job(self, given: dict[str, object]) -> dict[str, object]:
        super()._create_training_job(given)
        return super()._create_training_job(given)


def test_a_job_whose_answer_was_lost_is_taken_for_started() -> None:
    control = LosesAnswers()
    assert start_job(control, JOB)
    assert list(control.jobs) == [JOB.name]


def test_a_job_that_failed_wants_another_name() -> None:
    control = FakeControl()
    control.job_states = ["Failed"]
    start_job(control, JOB)
    await_job(control, JOB.name, watch())
    with pytest.raises(Misconfigured, match=r"found Failed .*a name of its own for another try"):
        plan_job(control, JOB)


def test_a_job_is_waited_for_and_its_states_are_told() -> None:
    control = FakeControl()
    control.job_states = ["InProgress", "InProgress", "Completed"]
    start_job(control, JOB)
    told: list[str] = []
    job = await_job(control, JOB.name, watch(told))
    assert job.model_artifacts.uri == "s3://bucket/jobs/fraud-2026-11/output/model.tar.gz"
    assert [line.rpartition(": ")[2] for line in told] == ["InProgress", "Completed"]


def test_a_job_that_vanished_ends_the_wait() -> None:
    with pytest.raises(Unavailable, match="no training job none"):
        await_job(FakeControl(), "none", watch())


def test_the_end_of_the_log_is_read_for_a_failure() -> None:
    control = FakeControl()
    control.log = [f"line {number}" for number in range(50)]
    assert read_log_tail(control, JOB.name, lines=3) == ["line 47", "line 48", "line 49"]
    control.log = []
    assert read_log_tail(control, JOB.name) == []


class ForbidsLogs(FakeControl):
    def _describe_log_streams(self, given: dict[str, object]) -> dict[str, object]:
        raise Refused("DescribeLogStreams", "AccessDeniedException", "not allowed")


def test_a_log_that_may_not_be_read_hides_no_failure() -> None:
    assert read_log_tail(ForbidsLogs(), JOB.name) == []


def test_rows_are_sharded_for_the_forest_and_replicated_for_the_trees() -> None:
    control = FakeControl()
    start_job(control, JOB)
    forest = replace(
        JOB, name="anomaly", kind="anomaly", image=IMAGES.forest, channels={"train": "s3://b/r/"}
    )
    start_job(control, forest)
    channels = [control.jobs[name]["InputDataConfig"][0] for name in (JOB.name, "anomaly")]
    assert [each["ContentType"] for each in channels] == ["text/csv", "text/csv;label_size=0"]
    sources = [each["DataSource"]["S3DataSource"] for each in channels]
    assert [each["S3DataDistributionType"] for each in sources] == [
        "FullyReplicated",
        "ShardedByS3Key",
    ]


def test_network_and_key_become_part_of_the_job() -> None:
    control = FakeControl()
    place = Place(ROLE, ("subnet-1",), ("sg-1",), "alias/fraud")
    start_job(control, replace(JOB, place=place))
    job = control.jobs[JOB.name]
    assert job["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert job["OutputDataConfig"]["KmsKeyId"] == "alias/fraud"
    assert job["ResourceConfig"]["VolumeKmsKeyId"] == "alias/fraud"


@pytest.mark.parametrize(("trees", "size"), [(49, 256), (1_001, 256), (100, 0), (100, 4_096)])
def test_a_forest_that_the_algorithm_does_not_grow_is_refused(trees: int, size: int) -> None:
    with pytest.raises(Misconfigured, match="on SageMaker"):
        check_forest(trees, size)


def test_the_model_of_a_forest_job_is_a_pipeline_behind_its_front() -> None:
    control = FakeControl()
    control.job_states = ["InProgress", "Completed"]
    start_job(control, replace(JOB, name="anomaly", kind="anomaly", image=IMAGES.forest))
    front = "s3://bucket/jobs/anomaly/front.tar.gz"
    with pytest.raises(Misconfigured, match="status InProgress, expected a completed"):
        from_job(control, "anomaly", IMAGES, front, {})
    await_job(control, "anomaly", watch())
    found = from_job(control, "anomaly", IMAGES, front, {"anomaly_review": 1.4})
    assert [each.data_url for each in found.images] == [
        front,
        "s3://bucket/jobs/anomaly/output/model.tar.gz",
    ]
    assert found.images[0].environment["SAGEMAKER_PROGRAM"] == "inference.py"
    assert found.feature_hash == HASH
    assert found.bands is not None
    with pytest.raises(Misconfigured, match="no such training job"):
        from_job(control, "none", IMAGES, front, {})
    with pytest.raises(Misconfigured, match="--band: found no anomaly_review"):
        from_job(control, "anomaly", IMAGES, front, {"fraud_review": 1.4})


def test_a_job_of_somebody_else_is_not_deployed() -> None:
    control = FakeControl()
    start_job(control, JOB)
    await_job(control, JOB.name, watch())
    control.tags[control.jobs[JOB.name]["TrainingJobArn"]].clear()
    with pytest.raises(Misconfigured, match="no such tags"):
        from_job(control, JOB.name, IMAGES, "", {})


@pytest.mark.parametrize("name", ["", "-a", "a_b", "a" * 64, "ä"])
def test_a_name_that_sagemaker_does_not_take_is_refused(name: str) -> None:
    with pytest.raises(Misconfigured, match="letters, digits and single hyphens"):
        check_name("--name", name)
