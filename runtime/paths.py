"""What of /proc and /sys a container does not see, and what it sees and cannot write.

The lists are those of Docker's engine (moby, oci/defaults.go); paths that a kernel has not got
are passed over by the runtimes.
"""

import glob

from runtime.security import Security

# What tells of the host, or lets timing tell of its other processes.
_MASKED = """
    /proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats
    /proc/sched_debug /proc/scsi /proc/timer_list /proc/timer_stats
    /sys/devices/virtual/powercap /sys/firmware
""".split()
_THERMAL = "/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle"
_READ_ONLY = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger".split()


def masked(asked: Security) -> list[str]:
    """Paths in the container over which something empty is put."""
    hidden = [path for path in [*_MASKED, *sorted(glob.glob(_THERMAL))] if asked.hides(path)]
    return list(dict.fromkeys([*hidden, *asked.mask]))


def read_only(asked: Security) -> list[str]:
    """Paths in the container that cannot be written whatever capabilities there are."""
    return [path for path in _READ_ONLY if asked.hides(path)]
