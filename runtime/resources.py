"""Memory, CPU time, processes and limits of a container: HostConfig in the runtime-spec's words.

The fields are those of cgroup v1 in config-linux.md; the runtimes convert them where v2 is mounted.
"""

import glob
from collections.abc import Mapping
from typing import Any

from imagegraph.config import Json

_PERIOD = 100_000
"""Microseconds in which a container may use its share, as Docker has it."""

_UNLIMITED = (1 << 64) - 1
# Where a kernel that counts swap has a file for it, of v1 and of v2.
_SWAP = ("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", "/sys/fs/cgroup/*/memory.swap.max")


def resources(host: Mapping[str, Any], *, swap: bool) -> Json:
    """linux.resources but for devices; empty if nothing was asked for.

    `swap`: whether the kernel counts it. Then half of what may be had of memory and swap together
    is memory, as in Docker.
    """
    made: Json = {}
    if memory := host.get("Memory"):
        made["memory"] = {"limit": memory} | ({"swap": 2 * memory} if swap else {})
    if cpus := host.get("NanoCpus"):
        made["cpu"] = {"period": _PERIOD, "quota": cpus * _PERIOD // 10**9}
    if (processes := host.get("PidsLimit") or 0) > 0:
        made["pids"] = {"limit": processes}
    return made


def swap_is_counted() -> bool:
    """Whether a container's swap can be limited on this host."""
    return any(glob.glob(pattern) for pattern in _SWAP)


def rlimits(host: Mapping[str, Any]) -> list[Json]:
    """process.rlimits for Docker's Ulimits, where -1 is no limit; the last one of a name counts."""
    limits = {limit["Name"]: limit for limit in host.get("Ulimits") or ()}
    return [
        {
            "type": f"RLIMIT_{name.upper()}",
            "soft": _limit(limit["Soft"]),
            "hard": _limit(limit["Hard"]),
        }
        for name, limit in limits.items()
    ]


def _limit(number: int) -> int:
    return _UNLIMITED if number == -1 else number
