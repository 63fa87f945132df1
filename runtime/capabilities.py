"""Which capabilities a container has: Docker's default and what --cap-add and --cap-drop change.

capabilities(7); the default is that of Docker's engine (moby, oci/caps).
"""

from collections.abc import Collection, Iterable

from runtime.errors import RunError

# In the kernel's order, linux/capability.h.
CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
    SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME
    SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG
    WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
    """.split()
)
DEFAULT = frozenset(
    f"CAP_{name}"
    for name in """
    CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE
    SYS_CHROOT KILL AUDIT_WRITE
    """.split()
)


def available() -> frozenset[str]:
    """What this process may give: CapEff of proc(5)."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        [mask] = [int(line.split()[1], 16) for line in file if line.startswith("CapEff:")]
    return frozenset(name for bit, name in enumerate(CAPABILITIES) if mask >> bit & 1)


def chosen(
    add: Iterable[str], drop: Iterable[str], *, given: Collection[str], default: Collection[str]
) -> list[str]:
    """The capabilities of a container, in the kernel's order, for Docker's CapAdd and CapDrop.

    `given` are those that can be had at all. What is added wins over what is dropped, but ALL is
    added without what is dropped by name. Raises RunError for one that cannot be had.
    """
    added, dropped = set(add), set(drop)
    if "ALL" in added:
        wanted = set(given) - dropped
    elif "ALL" in dropped:
        wanted = added
    else:
        wanted = (set(default) & set(given)) - dropped | added
    if missing := wanted - set(given):
        raise RunError(
            f"cannot give {', '.join(sorted(missing))}, which cowshed itself does not have here:"
            " leave it out of --cap-add, or run cowshed with it"
        )
    return [name for name in CAPABILITIES if name in wanted]
