"""The machine that figures belong to."""

import os
import platform
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")


def describe_machine(redis_version: str) -> str:
    """One line: processor, cores that we may use, memory, versions, load before the run."""
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GB; "
        f"Linux {platform.release()}; Python {platform.python_version()}; "
        f"Redis {redis_version}; load {load}"
    )


def _processor() -> str:
    for line in _CPU_INFO.read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
