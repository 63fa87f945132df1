"""Who a process in a container is: USER of an image, --user and --group-add, as numbers.

Names are those of the container's own /etc/passwd and /etc/group, passwd(5) and group(5). Whoever
made the tree may have put anything there: nothing outside of the tree is read, nothing is waited
for, no more than _LIMIT bytes are taken, and a file that is none counts as not there.
"""

import errno
import io
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from backends.inside import read_inside
from runtime.errors import RunError

_LIMIT = 4 << 20
# The bound of Docker and containerd, below the kernel's.
_ID_MAX = (1 << 31) - 1
# NGROUPS_MAX, linux/limits.h.
_GROUPS_MAX = 65536
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR)


class Identity(NamedTuple):
    """A user as the kernel has it.

    `groups` are all of them, the primary one first. `home` and `name` are empty where /etc/passwd
    has none that JSON can hold.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    name: str


class User(NamedTuple):
    """One line of passwd(5)."""

    name: str
    uid: int
    gid: int
    home: str


class Group(NamedTuple):
    """One line of group(5)."""

    name: str
    gid: int
    members: tuple[str, ...]


def resolve(tree: int, user: str, group_add: Sequence[str] = ()) -> Identity:
    """The identity of `user`, Docker's NAME|UID[:GROUP|GID] or nothing for root.

    `tree` is an open directory, the root of the container. A number need not be in /etc/passwd, and
    is never taken for a name. The groups that list the user are its own unless one is given.
    Raises RunError.
    """
    name, _, group = user.partition(":")
    groups = tuple(parse_group(_read(tree, "etc/group")))
    uid = _number(name) if name else 0
    entry = _entry(tree, name, uid)
    if group:
        gid, own = _gid(group, groups), []
    else:
        gid = entry.gid if entry else 0
        own = [line.gid for line in groups if entry and entry.name in line.members]
    added = [_gid(text, groups) for text in group_add]
    every = tuple(dict.fromkeys([gid, *own, *added]))
    if len(every) > _GROUPS_MAX:
        raise RunError(
            f"the container's /etc/group has the user in {len(every)} groups, the kernel allows"
            f" {_GROUPS_MAX}: give --user UID:GID"
        )
    if entry is None:
        assert uid is not None
        return Identity(uid, gid, every, home="", name="")
    return Identity(entry.uid, gid, every, _utf8(entry.home), _utf8(entry.name))


def _entry(tree: int, name: str, uid: int | None) -> User | None:
    """The first line about the user; None for a number without one."""
    for line in parse_passwd(_read(tree, "etc/passwd")):
        if line.name == name if uid is None else line.uid == uid:
            return line
    if uid is None:
        raise RunError(
            f"no user {name[:64]!r} in the container's /etc/passwd: give one that is there, or a"
            " number"
        )
    return None


def _gid(text: str, groups: Sequence[Group]) -> int:
    number = _number(text)
    if number is not None:
        return number
    for line in groups:
        if line.name == text:
            return line.gid
    raise RunError(
        f"no group {text[:64]!r} in the container's /etc/group: give one that is there, or a number"
    )


def _number(text: str) -> int | None:
    """The id that `text` is; None if it is a name."""
    if not re.fullmatch("[0-9]+", text, re.ASCII):
        return None
    number = _id(text.encode())
    if number is None:
        raise RunError(f"{text[:64]} is no id of a user or group: they go to {_ID_MAX}")
    return number


def parse_passwd(data: bytes) -> Iterator[User]:
    """The users of a passwd(5) file; comments and lines that are none are left out.

    Docker takes a line without numbers for one of root; here it is nobody's.
    """
    for fields in _lines(data):
        if len(fields) >= 4:
            uid, gid = _id(fields[2]), _id(fields[3])
            if uid is not None and gid is not None:
                home = fields[5] if len(fields) > 5 else b""
                yield User(_text(fields[0]), uid, gid, _text(home))


def parse_group(data: bytes) -> Iterator[Group]:
    """The groups of a group(5) file; comments and lines that are none are left out."""
    for fields in _lines(data):
        if len(fields) >= 3 and (gid := _id(fields[2])) is not None:
            members = fields[3].split(b",") if len(fields) > 3 else []
            yield Group(_text(fields[0]), gid, tuple(_text(name) for name in members if name))


def _lines(data: bytes) -> Iterator[list[bytes]]:
    """The fields of each line that has a name; those beyond the seventh are left together."""
    for line in io.BytesIO(data):
        fields = line.strip().split(b":", 6)
        if fields[0] and not fields[0].startswith(b"#"):
            yield fields


def _id(field: bytes) -> int | None:
    match = re.fullmatch(rb"0*([0-9]{1,10})", field)
    number = int(match[1]) if match else -1
    return number if 0 <= number <= _ID_MAX else None


def _text(field: bytes) -> str:
    return field.decode(errors="surrogateescape")


def _utf8(text: str) -> str:
    return text if text.isprintable() else ""


def _read(tree: int, path: str) -> bytes:
    try:
        data = read_inside(tree, path, _LIMIT + 1)
    except OSError as error:
        if error.errno == errno.EINVAL:
            # The runtimes read it, too, and would wait for a fifo.
            raise RunError(f"the container's /{path} is no regular file: remove it") from None
        if error.errno in _NO_FILE:
            return b""
        raise RunError(f"cannot read the container's /{path}: {error.strerror}") from None
    if len(data) > _LIMIT:
        raise RunError(f"the container's /{path} is larger than {_LIMIT >> 20} MiB: shorten it")
    return data
