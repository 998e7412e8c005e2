"""``fraudstream models train``: train on SageMaker, with its built-in algorithms."""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from consumer import configuration
from consumer.deployment.answers import Job
from consumer.deployment.calls import Call, Control, carry_out
from consumer.deployment.front import build_front
from consumer.deployment.jobs import Machine, TrainingJob, plan_job, start_job
from consumer.deployment.learning import (
    forest_hyperparameters,
    hyperparameters_of,
    read_booster,
    scaling_of,
    weighted,
    write_archive,
)
from consumer.deployment.naming import check_name, digest
from consumer.deployment.rows import Channel, build_uploads, write_inputs, write_labelled
from consumer.deployment.servables import front_key
from consumer.deployment.waiting import await_job, read_log_tail
from consumer.model_actions.connection import (
    add_waiting,
    bucket_of,
    images_of,
    local_archive,
    open_control,
    place_of,
    print_calls,
    say,
    watch_of,
)
from consumer.settings import Settings
from consumer.training.examples import open_files
from consumer.training.lesson import Lesson, prepare
from consumer.training.settings import TrainingSettings, load_training_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this action takes."""
    parser.add_argument(
        "dataset", nargs="+", type=Path, metavar="DATASET", help="as fraudstream train takes them"
    )
    parser.add_argument(
        "--kind", choices=("fraud", "anomaly"), default="fraud", help="default: %(default)s"
    )
    parser.add_argument(
        "--name", required=True, help="of the job; told again with the same input it is that job"
    )
    parser.add_argument("--settings", type=Path, metavar="FILE", help="training settings (YAML)")
    parser.add_argument(
        "--out", type=Path, metavar="ARCHIVE", help="fraud: where to (default <name>.tar.gz)"
    )
    parser.add_argument(
        "--like",
        type=Path,
        metavar="ARCHIVE",
        help="anomaly: take what stands in front of the trees from this forest trained here",
    )
    add_waiting(parser)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A job with all that has to be in S3 before it starts, and the rows it came from."""

    job: TrainingJob
    uploads: tuple[Call, ...]
    lesson: Lesson


def run(arguments: argparse.Namespace) -> int:
    """Train; 1 where the job failed. Raises Misconfigured and Unavailable."""
    check_name("--name", arguments.name)
    settings = configuration.load(arguments.config).settings
    told = (
        TrainingSettings()
        if arguments.settings is None
        else load_training_settings(arguments.settings)
    )
    with open_control(settings) as control, tempfile.TemporaryDirectory() as folder:
        wanted = _prepare(arguments, settings, told, Path(folder))
        calls = plan_job(control, wanted.job)
        if arguments.dry_run:
            print_calls([*wanted.uploads, *calls] if calls else [])
            return 0
        if calls:
            say(f"uploading {len(wanted.uploads)} files")
            carry_out(control, wanted.uploads)
            start_job(control, wanted.job)
        else:
            say(f"{arguments.name} was started before with this very input")
        if arguments.no_wait:
            return 0
        job = await_job(control, arguments.name, watch_of(arguments))
        if job.training_job_status != "Completed":
            return tell_failure(control, job)
        return _finish(arguments, settings, wanted, job, Path(folder))


def _prepare(
    arguments: argparse.Namespace, settings: Settings, told: TrainingSettings, folder: Path
) -> _Wanted:
    lesson = prepare(open_files(arguments.dataset), told)
    if arguments.kind == "fraud":
        channels: Sequence[Channel] = (
            write_labelled(weighted(lesson), folder, "train"),
            write_labelled(lesson.validation, folder, "validation"),
        )
        return _build(arguments, settings, lesson, channels, hyperparameters_of(told))
    scaling = scaling_of(lesson, arguments.like)
    channels = (write_inputs(lesson.learning, scaling, folder),)
    parameters = forest_hyperparameters(told, len(scaling.columns))
    wanted = _build(arguments, settings, lesson, channels, parameters)
    front = folder / "front.tar.gz"
    front.write_bytes(build_front(scaling))
    key = front_key(settings.sagemaker.prefix, arguments.name)
    upload = Call("s3", "put_object", {"Bucket": bucket_of(settings), "Key": key, "Body": front})
    return _Wanted(wanted.job, (*wanted.uploads, upload), lesson)


def _build(
    arguments: argparse.Namespace,
    settings: Settings,
    lesson: Lesson,
    channels: Sequence[Channel],
    hyperparameters: Mapping[str, str],
) -> _Wanted:
    told, images, bucket = settings.sagemaker, images_of(settings), bucket_of(settings)
    urls, uploads = build_uploads(channels, bucket, told.prefix)
    job = TrainingJob(
        name=arguments.name,
        kind=arguments.kind,
        image=images.xgboost if arguments.kind == "fraud" else images.forest,
        hyperparameters=hyperparameters,
        channels=urls,
        output=f"s3://{bucket}/{told.prefix}jobs/",
        data=digest([each.digest for each in channels]),
        feature_hash=lesson.examples.feature_hash,
        place=place_of(settings),
        machine=Machine(
            told.training_instance_type, told.training_volume_gb, told.training_limit_s
        ),
    )
    return _Wanted(job, tuple(uploads), lesson)


def tell_failure(control: Control, job: Job) -> int:
    """Tell why *job* did not complete, with the end of its log; 1."""
    say(f"{job.training_job_name} {job.training_job_status}: {job.failure_reason or 'no reason'}")
    for line in read_log_tail(control, job.training_job_name):
        say(f"  {line}")
    return 1


def _finish(
    arguments: argparse.Namespace, settings: Settings, wanted: _Wanted, job: Job, folder: Path
) -> int:
    say(f"{job.training_job_name} completed: {job.model_artifacts.uri}")
    if arguments.kind == "anomaly":
        say(f"deploy it with: fraudstream models deploy --job {job.training_job_name}")
        return 0
    packed = local_archive(settings, job.model_artifacts.uri, folder / "job.tar.gz")
    path = arguments.out or Path(f"{job.training_job_name}.tar.gz")
    kept = {"name": job.training_job_name, "image": wanted.job.image}
    metrics = write_archive(path, read_booster(packed), wanted.lesson, kept)
    say(f"wrote {path}: average precision {metrics['average_precision']:.4f} in validation")
    return 0
