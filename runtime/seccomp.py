"""Seccomp profiles in Docker's format, made into the filter of one container.

A profile in Docker's format is for any machine and any set of capabilities: its rules say where
they apply. The runtime-spec (config-linux.md, "Seccomp") has only rules that do.
"""

import platform
import re
from collections.abc import Collection

from imagegraph.config import Json, host_platform
from runtime.errors import RunError
from runtime.seccomp_profile import default_profile

# GOARCH: its names in a profile's conditions, and in libseccomp.
_NATIVE = {
    "386": ("x86", "SCMP_ARCH_X86"),
    "amd64": ("amd64", "SCMP_ARCH_X86_64"),
    "arm": ("arm", "SCMP_ARCH_ARM"),
    "arm64": ("arm64", "SCMP_ARCH_AARCH64"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
}


def seccomp(
    wanted: str | None,
    capabilities: Collection[str],
    *,
    architecture: str | None = None,
    kernel: str | None = None,
) -> Json | None:
    """The filter, linux.seccomp of the runtime-spec; None for no filter.

    `wanted` is "unconfined", a profile in Docker's JSON, or None for the default. `architecture`
    (GOARCH) and `kernel` (as of uname(2)) are this machine's unless given. Raises RunError.
    """
    if wanted == "unconfined":
        return None
    if wanted is None:
        profile = default_profile()
    else:
        from runtime.seccomp_json import decoded

        profile = decoded(wanted)
    machine = architecture or host_platform()[0]
    native, library = _NATIVE.get(machine, (machine, ""))
    release = _version(kernel or platform.release())
    rules = [
        _rule(rule)
        for rule in profile.get("syscalls") or ()
        if _applies(rule, native, capabilities, release)
    ]
    made: Json = {"defaultAction": profile["defaultAction"], "syscalls": rules}
    kept = ("defaultErrnoRet", "flags")
    made |= {name: profile[name] for name in kept if profile.get(name) is not None}
    if architectures := _architectures(profile, library):
        made["architectures"] = architectures
    return made


def _architectures(profile: Json, library: str) -> list[str]:
    """What the filter is for; the machine's own alone where the profile does not say."""
    listed: list[str] = list(profile.get("architectures") or ())
    for entry in profile.get("archMap") or ():
        if entry["architecture"] == library:
            listed += [library, *(entry.get("subArchitectures") or ())]
    return listed


def _applies(
    rule: Json, native: str, capabilities: Collection[str], release: tuple[int, int]
) -> bool:
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    least, first_without = includes.get("minKernel"), excludes.get("minKernel")
    return (
        native in (includes.get("arches") or (native,))
        and native not in (excludes.get("arches") or ())
        and all(name in capabilities for name in includes.get("caps") or ())
        and not any(name in capabilities for name in excludes.get("caps") or ())
        and (not least or release >= _version(least))
        and (not first_without or release < _version(first_without))
    )


def _rule(rule: Json) -> Json:
    made: Json = {"names": rule.get("names") or [rule["name"]], "action": rule["action"]}
    if rule.get("errnoRet") is not None:
        made["errnoRet"] = rule["errnoRet"]
    if rule.get("args"):
        made["args"] = rule["args"]
    return made


def _version(text: str) -> tuple[int, int]:
    """The first two numbers, all that minKernel is about."""
    match = re.match(r"([0-9]{1,6})\.([0-9]{1,6})", text)
    if match is None:
        raise RunError(f"the seccomp profile's minKernel {text[:64]!r} is no version, such as 4.8")
    return int(match[1]), int(match[2])
