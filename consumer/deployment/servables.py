"""From an archive or a finished job to what SageMaker can serve."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from consumer.bands import MODEL_DIGITS, ModelBands, check_bands
from consumer.deployment.answers import Job
from consumer.deployment.calls import Call, Control
from consumer.deployment.endpoints import Image, Servable
from consumer.deployment.front import ENVIRONMENT
from consumer.deployment.inventory import find, read_tags
from consumer.deployment.naming import KIND
from consumer.errors import Misconfigured, Problem
from consumer.feature_hash import TAG as FEATURE_HASH
from consumer.training.reference import Reference, read_reference

_KINDS: Final[dict[str, Literal["fraud", "anomaly"]]] = {"fraud": "fraud", "anomaly": "anomaly"}
_CONTAINER_DOC: Final = "docs/models.md, 'A forest trained here'"


@dataclass(frozen=True, slots=True)
class Images:
    """Addresses of images; ``serving`` is one of the user's own, None without."""

    xgboost: str
    forest: str
    serving: str | None


@dataclass(frozen=True, slots=True)
class Ready:
    """What can be served once ``uploads`` are carried out."""

    servable: Servable
    uploads: tuple[Call, ...]


def from_archive(path: Path, images: Images, bucket: str, prefix: str) -> Ready:
    """
    Serve the archive *path*: XGBoost in AWS's image, a forest in the user's own.

    Raises Misconfigured for what is no archive, and for a forest without such an image.
    """
    reference = read_reference(path)
    if reference.kind == "fraud":
        image = images.xgboost
    elif images.serving is None:
        expected = (
            f"sagemaker.serving_image, which loads it ({_CONTAINER_DOC}), or a training job of "
            "the built-in algorithm (fraudstream models train --kind anomaly, then deploy --job)"
        )
        found = "a random cut forest trained here, which no image of AWS can load"
        raise Misconfigured([Problem(str(path), "kind", found, expected)])
    else:
        image = images.serving
    key = f"{prefix}models/{reference.model}/model.tar.gz"
    servable = Servable(
        kind=reference.kind,
        model=reference.model,
        feature_hash=reference.feature_hash,
        images=(Image(image, f"s3://{bucket}/{key}", {}),),
        bands=_bands(path, reference),
    )
    upload = Call("s3", "put_object", {"Bucket": bucket, "Key": key, "Body": path})
    return Ready(servable, (upload,))


def front_key(prefix: str, job: str) -> str:
    """The key of the archive that stands in front of the forest of *job*."""
    return f"{prefix}jobs/{job}/front.tar.gz"


def from_job(
    control: Control, name: str, images: Images, front_url: str, thresholds: dict[str, float]
) -> Servable:
    """
    Serve the model of the training job *name*.

    Raises Misconfigured where it has not completed, or was not started by this package.
    """
    job = find(control, Job, name)
    if job is None or job.training_job_status != "Completed":
        found = "no such training job" if job is None else f"status {job.training_job_status}"
        raise Misconfigured([Problem("SageMaker", name, found, "a completed training job")])
    tags = read_tags(control, job.training_job_arn)
    kind, feature_hash = _KINDS.get(tags.get(KIND, "")), tags.get(FEATURE_HASH)
    if feature_hash is None or kind is None:
        expected = "a job of fraudstream models train, which tags kind and features"
        raise Misconfigured([Problem("SageMaker", name, "no such tags", expected)])
    data_url = job.model_artifacts.uri
    digits = job_digits(job)
    own = Image(images.xgboost if kind == "fraud" else images.forest, data_url, {})
    pipeline = (own,) if kind == "fraud" else (Image(images.xgboost, front_url, ENVIRONMENT), own)
    return Servable(
        kind=kind,
        model=digits,
        feature_hash=feature_hash,
        images=pipeline,
        bands=_told_bands(kind, thresholds, digits),
    )


def job_digits(job: Job) -> str:
    """What stands for the hash of its model: SageMaker names a job, and its model, only once."""
    return hashlib.sha256(job.training_job_arn.encode()).hexdigest()[:MODEL_DIGITS]


def _bands(path: Path, reference: Reference) -> ModelBands | None:
    if not reference.thresholds:
        return None
    try:
        return reference.bands()
    except ValueError as error:
        expected = "thresholds of this package"
        raise Misconfigured([Problem(str(path), "metrics.json", str(error), expected)]) from error


def _told_bands(kind: str, thresholds: dict[str, float], model: str) -> ModelBands | None:
    if not thresholds:
        return None
    try:
        return check_bands(kind, thresholds, model)
    except (ValueError, KeyError) as error:
        expected = "fraud_review=… fraud_decline=…, or anomaly_review=…"
        raise Misconfigured([Problem("arguments", "--band", str(error), expected)]) from error
