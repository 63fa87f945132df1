"""A user's seccomp profile: what its JSON has to look like.

The format is that of Docker's --security-opt seccomp=FILE (docs.docker.com, "Seccomp security
profiles for Docker"; moby/profiles, seccomp.go). Fields beside it are passed over, as Docker does.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from imagegraph.config import Json
from runtime.errors import RunError

_Words = list[str] | None
_Errno = Annotated[int, Meta(ge=0, le=4095)] | None
_Unsigned = Annotated[int, Meta(ge=0)]
_U64_MAX = (1 << 64) - 1
# Without SCMP_ACT_NOTIFY, which needs a program that answers.
_Action = Literal[
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
]
_Operator = Literal[
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
]


class _Record(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Fields that are not given are left out of what is made."""


class _Argument(_Record, frozen=True, kw_only=True):
    index: Annotated[int, Meta(ge=0, le=5)]
    value: _Unsigned
    value_two: _Unsigned = 0
    op: _Operator

    def __post_init__(self) -> None:
        if max(self.value, self.value_two) > _U64_MAX:
            raise ValueError("a value is larger than an argument can be")


class _Filter(_Record, frozen=True):
    caps: _Words = None
    arches: _Words = None
    min_kernel: str | None = None


class _Rule(_Record, frozen=True, kw_only=True):
    name: str = ""
    names: _Words = None
    action: _Action
    errno_ret: _Errno = None
    args: list[_Argument] | None = None
    includes: _Filter | None = None
    excludes: _Filter | None = None

    def __post_init__(self) -> None:
        if bool(self.name) == bool(self.names):
            raise ValueError("a rule has either a name or names")


class _Architecture(_Record, frozen=True, kw_only=True):
    architecture: str
    sub_architectures: _Words = None


class _Profile(_Record, frozen=True, kw_only=True):
    default_action: _Action
    default_errno_ret: _Errno = None
    architectures: _Words = None
    arch_map: list[_Architecture] | None = None
    flags: _Words = None
    syscalls: list[_Rule] | None = None

    def __post_init__(self) -> None:
        if self.architectures and self.arch_map:
            raise ValueError("a profile has either architectures or archMap")


def decoded(text: str) -> Json:
    """The profile in the JSON `text`, without what is not of the format. Raises RunError."""
    try:
        profile = msgspec.json.decode(text, type=_Profile)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RunError(f"the seccomp profile will not do: {error}") from None
    made = msgspec.to_builtins(profile)
    assert isinstance(made, dict)
    return made
