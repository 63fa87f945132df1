"""The one way to run another program."""

import os
import shutil
import subprocess
from collections.abc import Sequence

from backends.errors import BackendError, Unavailable

PACKAGES = {"mkfs.btrfs": "btrfs-progs", "btrfs": "btrfs-progs"}


# Where mkfs.btrfs, losetup and mount may be; the PATH of cron(8) and of many a user lacks them.
_SYSTEM = "/usr/local/sbin:/usr/sbin:/sbin"


def run(argv: Sequence[str], doing: str) -> str:
    """Run `argv` to its end and return what it printed on stdout.

    It is looked for in PATH, then in the directories of system programs. Raises Unavailable if it
    is not installed, and BackendError with the last line of its stderr if it fails; `doing` reads
    after "cannot".
    """
    program = shutil.which(argv[0], path=f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM}")
    if program is None:
        package = PACKAGES.get(argv[0], "util-linux")
        raise Unavailable(
            f"cannot {doing}: {argv[0]} is not installed; install the package {package}"
        )
    found = [program, *argv[1:]]
    done = subprocess.run(found, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        # After its reason, mount(8) advises to look into dmesg(1).
        lines = [line for line in done.stderr.strip().splitlines() if "dmesg(1)" not in line]
        lines = lines or [f"exit status {done.returncode}"]
        raise BackendError(f"cannot {doing}: {argv[0]}: {lines[-1].strip()}")
    return done.stdout
