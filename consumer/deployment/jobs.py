"""
Training jobs of the built-in algorithms.

A job is idempotent by its name: told again with the same input it is the same job, whose
end is waited for; told with another input it is refused, because a name stands for one
model. What the input was is a digest in a tag.

XGBoost reads CSV without a header, label first and, with ``csv_weights``, weight second
("Input/Output Interface for the XGBoost Algorithm"). Random Cut Forest reads
``text/csv;label_size=0`` and demands that its data be sharded ("Input/Output Interface for
the RCF Algorithm", SageMaker developer guide).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from consumer.deployment.answers import Job, tags_of
from consumer.deployment.calls import Call, Control, Refused
from consumer.deployment.endpoints import Place
from consumer.deployment.inventory import find, read_tags
from consumer.deployment.naming import INPUT, KIND, digest
from consumer.errors import Misconfigured, Problem
from consumer.feature_hash import TAG as FEATURE_HASH

_TREES: Final = (50, 1_000)
_TREE_SIZE: Final = (1, 2_048)


@dataclass(frozen=True, slots=True)
class Machine:
    """What a job runs on, and for how long at most."""

    instance_type: str
    volume_gb: int
    limit_s: int


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """
    One job: ``channels`` are name → ``s3://`` prefix, ``output`` is where its model goes.

    ``data`` is a digest of the training rows, whatever their place is called.
    """

    name: str
    kind: Literal["fraud", "anomaly"]
    image: str
    hyperparameters: Mapping[str, str]
    channels: Mapping[str, str]
    output: str
    data: str
    feature_hash: str
    place: Place
    machine: Machine

    @property
    def input(self) -> str:
        """A digest of all that the model depends on."""
        return digest([self.kind, self.image, dict(self.hyperparameters), self.data])


def plan_job(control: Control, job: TrainingJob) -> tuple[Call, ...]:
    """
    What to tell so that *job* runs: nothing where it does, or did.

    Raises Misconfigured where a job of that name has another input, or has failed.
    """
    present = find(control, Job, job.name)
    if present is None:
        return (build_job(job),)
    check_same(control, job, present)
    if present.training_job_status in ("Failed", "Stopped"):
        reason = present.failure_reason or "no reason given"
        expected = "a name of its own for another try: SageMaker keeps a job for ever"
        found = f"{present.training_job_status} ({reason})"
        raise Misconfigured([Problem("SageMaker", job.name, found, expected)])
    return ()


def start_job(control: Control, job: TrainingJob) -> bool:
    """
    Run *job*; False where it did already. Raises as ``plan_job`` does, and Refused.

    An answer that was lost may have made the job: then the repeated call is refused.
    """
    calls = plan_job(control, job)
    for call in calls:
        try:
            control.tell(call)
        except Refused as error:
            if not error.exists or plan_job(control, job):
                raise
    return bool(calls)


def check_same(control: Control, job: TrainingJob, present: Job) -> None:
    """Refuse another input under the same name. Raises Misconfigured."""
    found = read_tags(control, present.training_job_arn).get(INPUT)
    if found == job.input:
        return
    told = dict(job.hyperparameters)
    known = present.hyper_parameters
    differing = sorted(key for key in told.keys() | known if told.get(key) != known.get(key))
    what = f"hyperparameters {', '.join(differing)}" if differing else "rows or image"
    expected = "the input it was started with; another model needs another name"
    raise Misconfigured(
        [Problem("SageMaker", job.name, f"a training job of other {what}", expected)]
    )


def build_job(job: TrainingJob) -> Call:
    """Build CreateTrainingJob."""
    place, machine = job.place, job.machine
    output: dict[str, object] = {"S3OutputPath": job.output}
    resources: dict[str, object] = {
        "InstanceType": machine.instance_type,
        "InstanceCount": 1,
        "VolumeSizeInGB": machine.volume_gb,
    }
    if place.kms_key_id is not None:
        output["KmsKeyId"] = place.kms_key_id
        resources["VolumeKmsKeyId"] = place.kms_key_id
    parameters: dict[str, object] = {
        "TrainingJobName": job.name,
        "AlgorithmSpecification": {"TrainingImage": job.image, "TrainingInputMode": "File"},
        "RoleArn": place.role_arn,
        "HyperParameters": dict(job.hyperparameters),
        "InputDataConfig": [_build_channel(job, name, url) for name, url in job.channels.items()],
        "OutputDataConfig": output,
        "ResourceConfig": resources,
        "StoppingCondition": {"MaxRuntimeInSeconds": machine.limit_s},
        "Tags": tags_of({KIND: job.kind, INPUT: job.input, FEATURE_HASH: job.feature_hash}),
    }
    if place.subnets:
        parameters["VpcConfig"] = {
            "Subnets": list(place.subnets),
            "SecurityGroupIds": list(place.security_group_ids),
        }
    return Call("sagemaker", "create_training_job", parameters)


def _build_channel(job: TrainingJob, name: str, url: str) -> dict[str, object]:
    fraud = job.kind == "fraud"
    source = {
        "S3DataType": "S3Prefix",
        "S3Uri": url,
        "S3DataDistributionType": "FullyReplicated" if fraud else "ShardedByS3Key",
    }
    return {
        "ChannelName": name,
        "DataSource": {"S3DataSource": source},
        "ContentType": "text/csv" if fraud else "text/csv;label_size=0",
        "InputMode": "File",
    }


def check_forest(trees: int, tree_size: int) -> None:
    """Refuse what Random Cut Forest does not take ("RCF Hyperparameters"). Misconfigured."""
    for key, value, (least, most) in (
        ("num_trees", trees, _TREES),
        ("num_samples_per_tree", tree_size, _TREE_SIZE),
    ):
        if not least <= value <= most:
            expected = f"{least} to {most} on SageMaker"
            raise Misconfigured([Problem("training settings", key, str(value), expected)])
