"""Build the guest of vagrant/guest and keep it in the cache."""

import hashlib
import platform
import shlex
from pathlib import Path

from debian import HERE, Failure, bootstrap, cache, hook, locked, require_programs, say, staging

PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mmdebstrap": "mmdebstrap",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}
IN_CHROOT = "busybox-static cpio gcc kmod libc6-dev linux-headers-amd64 make xz-utils zstd"


def guest_directory(zfs: str = "") -> Path:
    """Where the guest with that version of OpenZFS lies; it is built if it is not there.

    It is made of the present scripts. `zfs` is a version or its beginning, or empty for the newest
    of the release.
    """
    if platform.machine() != "x86_64":
        raise Failure(f"this machine is {platform.machine()}; the guest is made for x86_64 only")
    require_programs(PACKAGES)
    parts = [(HERE / name).read_bytes() for name in ("apt-sources", "light/build", "light/init")]
    digest = hashlib.sha256(b"\0".join([*parts, IN_CHROOT.encode(), zfs.encode()])).hexdigest()
    guest = cache() / f"guest-{zfs or 'newest'}-{digest[:12]}"

    if not guest.exists():
        with locked(guest):
            if not guest.exists():
                build(guest, zfs)
    return guest


def build(guest: Path, zfs: str) -> None:
    say("building the guest, once; this takes some minutes")
    with staging(guest) as directory:
        bootstrap(
            directory,
            "--include=" + IN_CHROOT.replace(" ", ","),
            "--skip=cleanup/apt/lists",
            hook("copy-in", HERE / "light/build", HERE / "light/init", "/root"),
            f'--customize-hook=chroot "$1" bash /root/build {shlex.quote(zfs)}',
            hook("copy-out", "/guest", directory),
        )
        (directory / "guest").rename(guest)
