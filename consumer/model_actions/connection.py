"""What the actions on SageMaker share: the connection, the place, and how plans are shown."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from consumer.adapters import aws
from consumer.adapters.control_plane import ControlPlane
from consumer.adapters.s3.calls import fetch
from consumer.adapters.sagemaker import SageMakerEndpoint
from consumer.clock import SystemClock
from consumer.deployment.calls import Call
from consumer.deployment.endpoints import Place
from consumer.deployment.images import image_of
from consumer.deployment.servables import Images
from consumer.deployment.waiting import Watch
from consumer.errors import Misconfigured, Problem
from consumer.settings import EndpointSettings, Settings
from consumer.training.archive import Kind
from consumer.training.settings import parse_duration

_CONNECT_TIMEOUT_S = 10.0
_READ_TIMEOUT_S = 60.0


@contextmanager
def open_control(settings: Settings) -> Iterator[ControlPlane]:
    """Connect when first asked, and close at the end."""
    make_client = partial(
        aws.client,
        aws=settings.aws,
        connect_timeout_s=_CONNECT_TIMEOUT_S,
        read_timeout_s=_READ_TIMEOUT_S,
        max_pool_connections=4,
    )
    with closing(ControlPlane(make_client, time.sleep)) as control:
        yield control


def local_archive(settings: Settings, source: str, target: Path) -> Path:
    """A local file of what *source* names: itself, or *target* with it. Raises Unavailable."""
    if not source.startswith("s3://"):
        return Path(source)
    client = aws.client(
        "s3",
        settings.aws,
        connect_timeout_s=_CONNECT_TIMEOUT_S,
        read_timeout_s=_READ_TIMEOUT_S,
        max_pool_connections=1,
    )
    with closing(client):
        return fetch(client, source, target)


def endpoint_of(settings: Settings, name: str, kind: Kind) -> SageMakerEndpoint:
    """The endpoint *name*, asked as workers ask those of the settings."""
    client = aws.client(
        "sagemaker-runtime",
        settings.aws,
        connect_timeout_s=_CONNECT_TIMEOUT_S,
        read_timeout_s=_READ_TIMEOUT_S,
        max_pool_connections=1,
    )
    own = settings.scoring.fraud if kind == "fraud" else settings.scoring.anomaly
    told = EndpointSettings(name=name, max_rows=own.max_rows, max_bytes=own.max_bytes)
    return SageMakerEndpoint(client, told, kind, SystemClock())


def place_of(settings: Settings) -> Place:
    """Role, network and key of the settings. Raises Misconfigured without a role."""
    told = settings.sagemaker
    if told.role_arn is None:
        expected = "the ARN of a role that SageMaker may take"
        raise Misconfigured([Problem("settings", "sagemaker.role_arn", "nothing", expected)])
    return Place(told.role_arn, told.subnets, told.security_group_ids, told.kms_key_id)


def bucket_of(settings: Settings) -> str:
    """The bucket of the settings. Raises Misconfigured without one."""
    if settings.sagemaker.bucket is None:
        expected = "a bucket for training rows and models"
        raise Misconfigured([Problem("settings", "sagemaker.bucket", "nothing", expected)])
    return settings.sagemaker.bucket


def images_of(settings: Settings) -> Images:
    """The images of the settings, AWS's by default. Raises Misconfigured."""
    told, region = settings.sagemaker, settings.aws.region
    return Images(
        xgboost=told.xgboost_image or image_of("xgboost", region, told.xgboost_version),
        forest=told.forest_image or image_of("forest", region, told.xgboost_version),
        serving=told.serving_image,
    )


def add_waiting(parser: argparse.ArgumentParser) -> None:
    """Add the options of everything that takes SageMaker minutes."""
    parser.add_argument(
        "--dry-run", action="store_true", help="print the calls that it would make, one a line"
    )
    parser.add_argument("--no-wait", action="store_true", help="return while it is under way")
    parser.add_argument(
        "--poll", type=_duration, default=15, metavar="TIME", help="pause between looks (15s)"
    )
    parser.add_argument(
        "--timeout", type=_duration, default=3_600, metavar="TIME", help="wait at most (1h)"
    )


def watch_of(arguments: argparse.Namespace) -> Watch:
    """How to wait, telling on standard error."""
    return Watch(SystemClock(), time.sleep, say, poll_s=arguments.poll, limit_s=arguments.timeout)


def say(line: str) -> None:
    """Tell of progress, beside what scripts read."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def print_calls(calls: Sequence[Call]) -> None:
    """Print *calls* as JSON, one a line."""
    for call in calls:
        sys.stdout.write(call.to_json().decode() + "\n")


def _duration(text: str) -> int:
    try:
        return parse_duration(int(text) if text.isdigit() else text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
