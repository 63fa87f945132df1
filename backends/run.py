"""The one way to run another program."""

import subprocess
from collections.abc import Sequence

from backends.errors import BackendError, Unavailable

PACKAGES = {"mkfs.btrfs": "btrfs-progs", "btrfs": "btrfs-progs"}


def run(argv: Sequence[str], doing: str) -> str:
    """Run `argv` to its end and return what it printed on stdout.

    Raises Unavailable if the program is not installed, and BackendError with the last line of
    its stderr if it fails; `doing` reads after "cannot".
    """
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except FileNotFoundError as missing:
        package = PACKAGES.get(argv[0], "util-linux")
        raise Unavailable(
            f"cannot {doing}: {argv[0]} is not installed; install the package {package}"
        ) from missing
    if done.returncode:
        # After its reason, mount(8) advises to look into dmesg(1).
        lines = [line for line in done.stderr.strip().splitlines() if "dmesg(1)" not in line]
        lines = lines or [f"exit status {done.returncode}"]
        raise BackendError(f"cannot {doing}: {argv[0]}: {lines[-1].strip()}")
    return done.stdout
