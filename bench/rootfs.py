"""The real root filesystem that is measured with: Debian 12 of about 450 MB, made by mmdebstrap.

It is kept in $XDG_CACHE_HOME/cowshed between runs. BENCH_ROOTFS names another tar to take.
"""

import os
import sys

from measuring import run

SUITE = "bookworm"
PACKAGES = "build-essential"


def archive() -> str:
    """The path of the tar; it is made if it is not there, which takes a minute."""
    given = os.environ.get("BENCH_ROOTFS")
    if given:
        return given
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = f"{cache}/cowshed/bench-{SUITE}.tar"
    if not os.path.exists(path):
        print(f"bench: making {path} with mmdebstrap, once", file=sys.stderr)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        fresh = f"{cache}/cowshed/.new-{os.getpid()}-{SUITE}.tar"
        try:
            run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", SUITE, fresh)
            os.rename(fresh, path)
        finally:
            if os.path.exists(fresh):
                os.unlink(fresh)
    return path
