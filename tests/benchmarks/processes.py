"""What the kernel says about a process: processor time and memory."""

import os
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """
    Seconds of CPU that *pid* took with all its threads, user and system.

    Fields 14 and 15 of /proc/<pid>/stat (proc(5)); they move in steps of 10 ms.
    """
    stat = Path(f"/proc/{pid}/stat").read_text()
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def rss_bytes(pid: int) -> int:
    """Bytes of *pid* that are in memory now: VmRSS of /proc/<pid>/status."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    message = f"no VmRSS of process {pid}"
    raise LookupError(message)
