"""The image without Docker: linted, its steps done in another place, its program run as nobody."""

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest
from yaml import safe_load

from consumer.configuration import load
from consumer.local.ports import listen, port_of
from consumer.local.redis_server import RedisServer
from consumer.settings import SHIPPED
from tests.rest_service import ACCESS, stub_aws

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy" / "docker"
DOCKERFILES = (DOCKER / "Dockerfile", ROOT / "deploy" / "sagemaker" / "serving" / "Dockerfile")
JARS = Path(sysconfig.get_path("purelib")) / "amazon_kclpy" / "jars"
NOBODY = 65_534
# python:3.11-slim-bookworm, unpacked, with tini; as published.
BASE_MB, LIMIT_MB = 130, 400
PATIENCE_S = 90.0


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_hadolint_finds_nothing(path: Path) -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    subprocess.run([hadolint, path], check=True)


def test_the_jars_of_the_kcl_are_those_that_were_checked_in() -> None:
    lines = (DOCKER / "jars.sha256").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split() for line in lines)}
    found = {path.name: sha256(path.read_bytes()).hexdigest() for path in JARS.glob("*.jar")}
    assert found == listed


def test_nothing_reaches_the_build_but_what_is_copied() -> None:
    ignored, *kept = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] != "#"
    ]
    assert ignored == "*"
    copied = {
        word
        for path in DOCKERFILES
        for line in re.findall(r"^COPY (?!--from)(.*)$", path.read_text(), re.MULTILINE)
        for word in line.split()[:-1]
    }
    assert {line.removeprefix("!") for line in kept} == copied


@pytest.mark.parametrize("service", ["daemon", "api"])
def test_the_services_of_compose_have_settings_that_there_are(service: str) -> None:
    read = safe_load((DOCKER / "compose.yaml").read_text())
    environment = {k: str(v) for k, v in read["services"][service]["environment"].items()}
    # Raises Misconfigured for a variable that is misspelt or does not fit.
    settings = load(SHIPPED / "fraudstream.yaml", environment).settings
    assert str(settings.aws.endpoint_url).startswith("http://localstack")
    assert read["services"][service]["read_only"] is True


def _build_steps() -> str:
    """The commands of the build stage that make the environment, as the Dockerfile has them."""
    (step,) = re.findall(
        r"^RUN (python -m venv .*?[^\\])$",
        (DOCKER / "Dockerfile").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    return str(step).replace("\\\n", " ")


def _base_python(folder: Path) -> Path:
    """
    A folder with ``python``, as the base image has it.

    That of the system if it can be, since nobody may not get to one in somebody's home.
    """
    suits = "import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))"
    for path in ("/usr/bin/python3", sys.executable):
        with suppress(OSError, subprocess.CalledProcessError):
            subprocess.run([path, "-c", suits], check=True, stderr=subprocess.DEVNULL)
            (folder / "bin").mkdir()
            (folder / "bin" / "python").symlink_to(path)
            return folder / "bin"
    raise AssertionError("no python makes environments")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image holds in /opt/fraudstream, made by its own steps in a folder of ours."""
    folder = tmp_path_factory.mktemp("image")
    # Nobody has to get there.
    for path in (folder, *folder.parents):
        if path.is_relative_to(Path(os.environ.get("TMPDIR", "/tmp"))) and path != Path("/tmp"):  # noqa: S108
            path.chmod(0o755)
    build = folder / "build"
    build.mkdir()
    wheel = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(build), "."]
    source = folder / "source"
    subprocess.run(["git", "clone", "-q", "--depth=1", f"file://{ROOT}", source], check=True)
    subprocess.run(wheel, cwd=source, check=True, stdout=subprocess.DEVNULL)
    for name in ("constraints.txt", "deploy/docker/jars.sha256"):
        shutil.copy(ROOT / name, build)
    steps = _build_steps().replace("/opt/fraudstream", str(folder / "opt"))
    steps = steps.replace("/build/", f"{build}/")
    subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-ec", steps],
        env={**os.environ, "EXTRAS": "api", "PATH": f"{_base_python(folder)}:/usr/bin:/bin"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return folder / "opt"


def test_the_image_stays_below_its_limit(image: Path) -> None:
    size = sum(path.lstat().st_size for path in image.rglob("*") if not path.is_symlink())
    assert BASE_MB + size / 1e6 < LIMIT_MB


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become nobody")
def test_the_program_serves_as_nobody_on_a_tree_that_it_cannot_write(
    image: Path, tmp_path: Path
) -> None:
    probe = listen(0, "api")
    port = port_of(probe)
    probe.close()
    with RedisServer(directory=tmp_path / "redis") as redis, stub_aws(tmp_path) as variables:
        run = image.parent / "run"
        run.mkdir()
        os.chown(run, NOBODY, NOBODY)
        access = run / "access.yaml"
        access.write_text(ACCESS)
        access.chmod(0o400)
        os.chown(access, NOBODY, NOBODY)
        given = {
            **variables,
            "REDIS__URL": redis.url,
            "AWS__REGION": "eu-central-1",
            "API__PORT": str(port),
            "API__AUTH__ACCESS_FILE": str(access),
            "SUPERVISOR__RUN_DIR": str(run),
        }
        environment = {f"FRAUDSTREAM_{name}": value for name, value in given.items()}
        process = subprocess.Popen(
            [image / "bin" / "python", "-m", "consumer", "serve"],
            env={**environment, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"},
            cwd=run,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        try:
            _await_health(f"http://127.0.0.1:{port}/healthz", process)
        finally:
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said.decode()[-2_000:]
        assert {path.name for path in run.iterdir()} <= {"access.yaml", "metrics"}


def _await_health(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s and process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own
            assert answer.status == 200
            return
        time.sleep(0.2)
    raise AssertionError(f"never healthy: {process.poll()}")
