"""
How often the kernel killed a process of our control group for want of memory.

``/dev/kmsg`` would name the process and needs rights that a service should not have.
The counter ``oom_kill`` of the group counts kills inside it, whether the group's own
limit or the machine ran out; it is in ``memory.events`` (cgroup v2) and
``memory.oom_control`` (v1, since Linux 4.13); see the kernel's cgroup-v2.rst.
"""

from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")


def find_counter(membership: Path = Path("/proc/self/cgroup"), mount: Path = _MOUNT) -> Path | None:
    """The file that counts for this process; None where the kernel shows none."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            base, name = mount / "memory", "memory.oom_control"
        elif not controllers:
            base, name = mount, "memory.events"
        else:
            continue
        # In a container the path may be the host's, and the mount the group itself.
        for found in (base / path.lstrip("/") / name, base / name):
            if read_kills(found) is not None:
                return found
    return None


def read_kills(counter: Path | None) -> int | None:
    """Kills so far; None where they cannot be told."""
    if counter is None:
        return None
    try:
        fields = dict(line.split(maxsplit=1) for line in counter.read_text().splitlines() if line)
        return int(fields["oom_kill"])
    except (OSError, KeyError, ValueError):
        return None
