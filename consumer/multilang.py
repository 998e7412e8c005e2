"""
What the KCL's multilang daemon is started with: its properties and command line.

Property names are the setters of ``MultiLangDaemonConfiguration`` and of its
polling bean in KCL 3.1.3.
"""

import importlib.util
import os
import shlex
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from consumer.deaggregation import FOLDER, write_classes
from consumer.errors import Misconfigured, Problem
from consumer.settings import Settings

_MAIN_CLASS = "software.amazon.kinesis.multilang.MultiLangDaemon"
_SCRIPT = "worker.sh"
_SHORTEST_LOOK_MS = 1_000


@dataclass(frozen=True, slots=True)
class Launch:
    """A command with its environment and the folder it runs in."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path


def worker_id(settings: Settings) -> str:
    """
    The id under which this instance holds its leases: the configured one or the host name.

    It is the same after a restart, so that the KCL takes up its own leases in
    seconds instead of waiting for them to expire.
    """
    return settings.kcl.worker_id or socket.gethostname()


def build_properties(settings: Settings) -> dict[str, str]:
    """The KCL's properties for *settings*, by name."""
    kcl = settings.kcl
    properties = {
        # The KCL cuts this at spaces and knows no quotes; a script in the folder
        # that Java runs in keeps any path out of it. By sh, since /run is often
        # mounted without the right to execute.
        "executableName": f"/bin/sh {_SCRIPT}",
        "processingLanguage": "python",
        "streamName": kcl.stream_name,
        "applicationName": kcl.application_name,
        "workerId": worker_id(settings),
        "AwsCredentialsProvider": "DefaultCredentialsProvider",
        "regionName": settings.aws.region,
        "initialPositionInStream": kcl.initial_position,
        # Unset, it would become fan-out unless a polling property is set.
        "retrievalMode": kcl.retrieval_mode,
        # Checkpoints can be sent inside calls only, and an idle shard proves its
        # progress that way.
        "callProcessRecordsEvenForEmptyRecordList": "true",
        "failoverTimeMillis": str(kcl.failover_time_ms),
        # A leader looks for leases that nobody renews every so often, by default every second
        # failover time: a takeover waits for two such looks, and for the next try at the
        # leader's lock, which is made at the first look that is 30 s after the last one.
        "leaseAssignmentIntervalMillis": str(max(kcl.failover_time_ms // 2, _SHORTEST_LOOK_MS)),
        # Leases are evened out at each third look by default; as often as before.
        "varianceBalancingFrequency": "12",
        "shutdownGraceMillis": str(kcl.shutdown_grace_ms),
        # Unset, a hung worker would stall its shard for ever while the lease is renewed.
        "timeoutInSeconds": str(kcl.child_timeout_s),
        # Of the client in MultiLangDaemonConfiguration, by way of its builder. The SDK would try
        # a throttled call nine times, 52 s long, and wait a minute for an answer. The KCL cannot
        # renew a lease while it stores its checkpoint, so the lease would be lost, and the worker
        # could not say meanwhile what it waits for. Renewals come three times in a failover time.
        "dynamoDbClient.overrideConfiguration.apiCallTimeout": (
            f"PT{kcl.failover_time_ms / 2_000:g}S"
        ),
        "metricsLevel": kcl.cloudwatch_metrics,
        # A sleep after each look at the stream's shards, 60 s by default, which a
        # first start on an empty lease table would sit through.
        "shardSyncIntervalMillis": "1000",
    }
    if kcl.retrieval_mode == "POLLING":
        properties["idleTimeBetweenReadsInMillis"] = str(kcl.idle_time_between_reads_ms)
        properties["maxRecords"] = str(kcl.max_records)
    if settings.aws.endpoint_url is not None:
        properties["kinesisEndpoint"] = settings.aws.endpoint_url
    dynamodb = kcl.dynamodb_endpoint_url or settings.aws.endpoint_url
    if dynamodb is not None:
        properties["dynamoDBEndpoint"] = dynamodb
    return properties


def render_properties(properties: Mapping[str, str]) -> str:
    """*properties* in the format of ``java.util.Properties.load``, ASCII with escapes."""
    return "".join(f"{name} = {_escape(value)}\n" for name, value in properties.items())


def prepare_launch(
    settings: Settings,
    java: Path,
    logback: Path,
    worker_command: Sequence[str],
    environment: Mapping[str, str],
) -> Launch:
    """
    Write what the KCL reads into the run directory and return how to start it.

    *worker_command* is run once a shard, in the present folder, with
    *environment*. Raises Misconfigured when the KCL's jars are not installed.
    """
    run_dir = settings.supervisor.run_dir.resolve()
    run_dir.mkdir(parents=True, exist_ok=True)
    properties = run_dir / "kcl.properties"
    properties.write_text(render_properties(build_properties(settings)), encoding="ascii")
    write_classes(run_dir)
    (run_dir / "logback.xml").write_bytes(logback.read_bytes())
    here, command = shlex.quote(str(Path.cwd())), shlex.join(worker_command)
    (run_dir / _SCRIPT).write_text(f"cd {here} && exec {command}\n", encoding="utf-8")
    emulated = settings.aws.endpoint_url is not None
    return Launch(
        command=(
            str(java),
            *settings.kcl.java_options,
            # From the first line on; the command-line option would come later.
            f"-Dlogback.configurationFile={run_dir / 'logback.xml'}",
            # Else a thread that finds no memory leaves out the delivery that it held.
            "-XX:+ExitOnOutOfMemoryError",
            # Emulators do not speak CBOR.
            *(["-Daws.cborEnabled=false"] if emulated else []),
            "-cp",
            # Ours first, relative to the folder that Java runs in.
            f"{FOLDER}{os.pathsep}{_jars()}/*",
            _MAIN_CLASS,
            "--properties-file",
            str(properties),
        ),
        environment={**environment, **({"AWS_CBOR_DISABLE": "1"} if emulated else {})},
        folder=run_dir,
    )


def _jars() -> Path:
    """The folder of the KCL's jars, which ``amazon_kclpy`` downloads when it is installed."""
    spec = importlib.util.find_spec("amazon_kclpy")
    if spec is not None and spec.origin is not None:
        jars = Path(spec.origin).parent / "jars"
        if any(jars.glob("amazon-kinesis-client-multilang-*.jar")):
            return jars
    raise Misconfigured(
        [Problem("installation", "amazon_kclpy", "no jars", "`pip install amazon_kclpy==3.1.3`")]
    )


def _escape(value: str) -> str:
    escaped = "".join(
        f"\\{character}"
        if character == "\\"
        else character
        if " " <= character <= "~"
        else "".join(f"\\u{unit:04x}" for unit in _utf16(character))
        for character in value
    )
    return f"\\{escaped}" if escaped.startswith(" ") else escaped


def _utf16(character: str) -> tuple[int, ...]:
    units = character.encode("utf-16-be")
    return tuple(int.from_bytes(units[i : i + 2]) for i in range(0, len(units), 2))
