"""``fraudstream models deploy``: bring a model to an endpoint, without an interruption."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from consumer import configuration
from consumer.deployment.calls import Control, carry_out
from consumer.deployment.endpoints import Capture, Deployment, Plan, Servable, plan_deployment
from consumer.deployment.naming import check_name
from consumer.deployment.scaling import Scaling
from consumer.deployment.servables import Ready, from_archive, from_job, front_key
from consumer.deployment.waiting import await_endpoint
from consumer.errors import Misconfigured, Problem
from consumer.features.specification import load_plan
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

_INVOCATIONS = 3_000.0
_SHOWN = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this action takes."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "archive", nargs="?", metavar="ARCHIVE", help="a model.tar.gz, a path or s3://bucket/key"
    )
    what.add_argument("--job", metavar="NAME", help="the model of this training job in its place")
    parser.add_argument(
        "--endpoint", metavar="NAME", help="default: the endpoint of the settings for its kind"
    )
    parser.add_argument("--shadow", metavar="ARCHIVE", help="a second model that gets a copy")
    parser.add_argument("--instance-type", metavar="TYPE", help="default: that of the settings")
    parser.add_argument("--instances", type=_count, default=1, metavar="N", help="to begin with")
    parser.add_argument(
        "--scale", type=_range, metavar="MIN:MAX", help="let the number of instances follow"
    )
    parser.add_argument(
        "--invocations",
        type=float,
        default=_INVOCATIONS,
        metavar="N",
        help="with --scale: requests a minute for each instance (default %(default)g)",
    )
    parser.add_argument(
        "--capture", type=_percent, metavar="PERCENT", help="keep so many requests and answers"
    )
    parser.add_argument(
        "--capture-to", metavar="URL", help="where to; default: capture/ in the bucket"
    )
    parser.add_argument(
        "--alarm",
        action="append",
        default=[],
        metavar="NAME",
        help="a CloudWatch alarm on which the update is taken back; repeatable",
    )
    parser.add_argument(
        "--band",
        action="append",
        default=[],
        type=_band,
        metavar="NAME=VALUE",
        help="with --job: a threshold such as anomaly_review=1.4; repeatable",
    )
    parser.add_argument(
        "--other-features",
        action="store_true",
        help="also a model of another feature list than that of the settings, whose scores "
        "workers with these settings will not use",
    )
    add_waiting(parser)


def run(arguments: argparse.Namespace) -> int:
    """Deploy; 1 where SageMaker ended with another model. Raises Misconfigured, Unavailable."""
    settings = configuration.load(arguments.config).settings
    with open_control(settings) as control, tempfile.TemporaryDirectory() as folder:
        ready = _servables(arguments, settings, control, Path(folder))
        main = ready[0].servable
        if not arguments.other_features:
            _check_features(settings, main)
        deployment = _deployment(arguments, settings, [each.servable for each in ready])
        plan = plan_deployment(control, deployment)
        uploads = [] if plan.change == "nothing" else [c for each in ready for c in each.uploads]
        if arguments.dry_run:
            print_calls([*uploads, *plan.calls, *plan.after])
            return 0
        carry_out(control, uploads)
        return change(control, plan, arguments)


def change(control: Control, plan: Plan, arguments: argparse.Namespace) -> int:
    """Carry *plan* out and wait; 1 where the endpoint runs something else at the end."""
    carry_out(control, plan.calls)
    if plan.change == "nothing":
        say(f"{plan.endpoint} runs {plan.configuration} already")
        carry_out(control, plan.after)
        return 0
    say(f"{plan.change}: {plan.endpoint}: {plan.former or 'nothing'} -> {plan.configuration}")
    if arguments.no_wait:
        if plan.after:
            say("autoscaling is not set yet: tell the same again when the endpoint is in service")
        return 0
    outcome = await_endpoint(control, plan, watch_of(arguments))
    if not outcome.done:
        running = outcome.configuration or "nothing"
        say(f"{plan.endpoint} is {outcome.status} and runs {running}: {outcome.reason}")
        return 1
    carry_out(control, plan.after)
    say(f"{plan.endpoint} is in service and runs {plan.configuration}")
    return 0


def _servables(
    arguments: argparse.Namespace, settings: Settings, control: Control, folder: Path
) -> list[Ready]:
    images, bucket, prefix = images_of(settings), bucket_of(settings), settings.sagemaker.prefix
    sources: Sequence[str] = [each for each in (arguments.archive, arguments.shadow) if each]
    found = []
    for number, source in enumerate(sources):
        path = local_archive(settings, source, folder / f"{number}.tar.gz")
        found.append(from_archive(path, images, bucket, prefix))
    if arguments.job is not None:
        front = f"s3://{bucket}/{front_key(prefix, arguments.job)}"
        servable = from_job(control, arguments.job, images, front, dict(arguments.band))
        return [Ready(servable, ()), *found]
    if arguments.band:
        expected = "--job: an archive carries its own thresholds (fraudstream models show)"
        raise Misconfigured([Problem("arguments", "--band", "with an archive", expected)])
    return found


def _deployment(
    arguments: argparse.Namespace, settings: Settings, servables: Sequence[Servable]
) -> Deployment:
    main = servables[0]
    scoring = settings.scoring
    own = scoring.fraud.name if main.kind == "fraud" else scoring.anomaly.name
    endpoint = check_name("--endpoint", arguments.endpoint or own)
    capture = None
    if arguments.capture:
        default = f"s3://{bucket_of(settings)}/{settings.sagemaker.prefix}capture/"
        capture = Capture(arguments.capture, arguments.capture_to or default)
    scaling = None
    if arguments.scale is not None:
        least, most = arguments.scale
        scaling = Scaling(least, most, arguments.invocations)
    return Deployment(
        endpoint=endpoint,
        servable=main,
        place=place_of(settings),
        instance_type=arguments.instance_type or settings.sagemaker.instance_type,
        instances=max(arguments.instances, 0 if scaling is None else scaling.least),
        scaling=scaling,
        capture=capture,
        shadow=servables[1] if len(servables) > 1 else None,
        alarms=tuple(arguments.alarm),
    )


def _check_features(settings: Settings, servable: Servable) -> None:
    plan = load_plan(settings.features.path, settings.events.base_currency)
    if plan.hash != servable.feature_hash:
        found = f"trained on the feature list {servable.feature_hash[:_SHOWN]}…"
        expected = (
            f"{plan.hash[:_SHOWN]}… of features.path, or workers will not use its scores; "
            "--other-features deploys it all the same"
        )
        raise Misconfigured([Problem("the model", "features", found, expected)])


def _count(text: str) -> int:
    if not (text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError("a number from 1")
    return int(text)


def _percent(text: str) -> int:
    if not (text.isdigit() and int(text) <= 100):  # noqa: PLR2004 - percent
        raise argparse.ArgumentTypeError("a percentage from 0 to 100")
    return int(text)


def _range(text: str) -> tuple[int, int]:
    least, _, most = text.partition(":")
    if not (least.isdigit() and most.isdigit() and 0 < int(least) <= int(most)):
        raise argparse.ArgumentTypeError("two numbers such as 2:8")
    return int(least), int(most)


def _band(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError("such as anomaly_review=1.4") from error
