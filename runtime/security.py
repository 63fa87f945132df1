"""--security-opt: no-new-privileges, seccomp, AppArmor and the paths that are hidden.

The words are Docker's, with mask= and unmask= of Podman; those of SELinux are refused.
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple

from runtime.errors import RunError


class Security(NamedTuple):
    """What was asked for; `seccomp` and `apparmor` are None where nothing was.

    `seccomp` is "unconfined" or a profile in Docker's JSON. `mask` and `unmask` hold paths, those
    of `unmask` may be patterns of a shell; ALL unmasks whatever is masked.
    """

    no_new_privileges: bool = False
    seccomp: str | None = None
    apparmor: str | None = None
    mask: tuple[str, ...] = ()
    unmask: tuple[str, ...] = ()

    def hides(self, path: str) -> bool:
        """Whether a path that is hidden or read-only by default stays so."""
        if "ALL" in self.unmask:
            return False
        return not any(_matches(path, pattern) for pattern in self.unmask)


def _matches(path: str, pattern: str) -> bool:
    """Whether each part does: in a shell's pattern * does not stand for a slash."""
    parts, patterns = path.split("/"), pattern.rstrip("/").split("/")
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


def security(options: Iterable[str]) -> Security:
    """What SecurityOpt of Docker's API says; of two words on one thing the last counts.

    Raises RunError.
    """
    found = Security()
    for option in options:
        name, _, value = option.partition("=") if "=" in option else option.partition(":")
        if name == "no-new-privileges" and value in ("", "true", "false"):
            found = found._replace(no_new_privileges=value != "false")
        elif name == "seccomp" and value:
            found = found._replace(seccomp=value)
        elif name == "apparmor" and value:
            found = found._replace(apparmor=value)
        elif name == "mask" and value:
            found = found._replace(mask=(*found.mask, *_absolute(option, value.split(":"))))
        elif name == "unmask" and value:
            paths = [path for path in value.split(":") if path != "ALL"]
            all_of_them = ["ALL"] if "ALL" in value.split(":") else []
            added = (*_absolute(option, paths), *all_of_them)
            found = found._replace(unmask=(*found.unmask, *added))
        elif (name, value) == ("systempaths", "unconfined"):
            found = found._replace(unmask=(*found.unmask, "ALL"))
        elif name == "label":
            if value != "disable":
                raise RunError(f"--security-opt {option}: cowshed sets no labels of SELinux")
        else:
            raise RunError(f"--security-opt {option[:64]} is not understood")
    return found


def _absolute(option: str, paths: Iterable[str]) -> list[str]:
    found = list(paths)
    if not all(path.startswith("/") for path in found):
        raise RunError(f"--security-opt {option[:64]}: its paths start with / and have : between")
    return found


def apparmor_profile(wanted: str | None) -> str | None:
    """The profile to be set, if any; RunError where the kernel could not honour it."""
    try:
        with open("/sys/module/apparmor/parameters/enabled", encoding="ascii") as file:
            enabled = file.read(1) == "Y"
    except OSError:
        enabled = False
    if enabled or wanted in (None, "unconfined"):
        return wanted if enabled else None
    raise RunError(
        f"--security-opt apparmor={wanted}: AppArmor is off in this kernel, so nothing would hold"
        " the container to it: leave it out"
    )
