"""POSIX ACLs: the text that archives carry, and the attribute that the kernel keeps.

Sources: acl(5) for the text; star(5) for its form in archives, where a named entry may end in the
number; linux/posix_acl_xattr.h and linux/posix_acl.h for the binary form.
"""

import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple

from oci.errors import ArchiveError

ACCESS = b"system.posix_acl_access"
DEFAULT = b"system.posix_acl_default"
ATTRIBUTES = (ACCESS, DEFAULT)

Resolve = Callable[[bytes, bytes], int]
"""The number of a name; the first argument is b"user" or b"group"."""

_VERSION = struct.pack("<I", 2)
_ENTRY = struct.Struct("<HHI")
_NO_ID = 0xFFFFFFFF
_MOST_DIGITS = 10

_OWNER, _USER, _OWNING_GROUP, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_TAGS = {
    (b"user", False): _OWNER,
    (b"user", True): _USER,
    (b"group", False): _OWNING_GROUP,
    (b"group", True): _GROUP,
    (b"mask", False): _MASK,
    (b"other", False): _OTHER,
}
_WORDS = {tag: word for (word, _), tag in _TAGS.items()}
_LONG = {b"u": b"user", b"g": b"group", b"m": b"mask", b"o": b"other"}
_PERMISSIONS = {ord("r"): 4, ord("w"): 2, ord("x"): 1, ord("-"): 0}
_LETTERS = b"--- --x -w- -wx r-- r-x rw- rwx".split()


class Line(NamedTuple):
    """An entry: its tag in the kernel, the word for it, whom it names (or nobody), and its bits."""

    tag: int
    word: bytes
    qualifier: bytes
    permissions: int


def parse(text: bytes) -> list[Line]:
    """The entries of an ACL in text form, separated by commas or newlines.

    A number at the end of a named entry is its qualifier: owners are numeric. Raises
    ArchiveError.
    """
    lines = []
    for item in text.replace(b",", b"\n").split(b"\n"):
        item = item.partition(b"#")[0].strip()
        if item:
            lines.append(_line(item))
    return lines


def names(lines: list[Line]) -> bool:
    """Whether an entry names a user or group that has no number yet."""
    return any(line.qualifier and not line.qualifier.isdigit() for line in lines)


def encode(lines: list[Line], resolve: Resolve) -> bytes:
    """The ACL as the value of its extended attribute. Raises ArchiveError if it is not complete."""
    entries = {}
    for line in lines:
        number = _NO_ID
        if line.qualifier:
            known = line.qualifier.isdigit()
            number = int(line.qualifier) if known else resolve(line.word, line.qualifier)
            if not 0 <= number < _NO_ID:
                raise ArchiveError(f"the id {number} in its ACL is out of range")
        if (line.tag, number) in entries:
            raise ArchiveError("its ACL has an entry twice")
        entries[line.tag, number] = line.permissions
    tags = {tag for tag, _ in entries}
    needed = {_OWNER, _OWNING_GROUP, _OTHER} | ({_MASK} if tags & {_USER, _GROUP} else set())
    if needed - tags:
        raise ArchiveError("its ACL lacks an entry: owner, group, mask or others")
    return _VERSION + b"".join(
        _ENTRY.pack(tag, entries[tag, number], number) for tag, number in sorted(entries)
    )


def text(value: bytes) -> bytes:
    """The value of an ACL's extended attribute in text form, with numbers for names.

    In the order of the attribute, separated by commas, as star writes it and GNU tar and
    libarchive read it. Empty if there are no entries. Raises ArchiveError for what the kernel
    would not have kept.
    """
    entries = value[len(_VERSION) :]
    if not value.startswith(_VERSION) or len(entries) % _ENTRY.size:
        raise ArchiveError("its ACL is not in the form that Linux keeps")
    items = []
    for tag, permissions, number in _ENTRY.iter_unpack(entries):
        word = _WORDS.get(tag)
        if word is None or permissions >= len(_LETTERS):
            raise ArchiveError("its ACL is not in the form that Linux keeps")
        qualifier = b"%d" % number if tag in (_USER, _GROUP) else b""
        items.append(b"%b:%b:%b" % (word, qualifier, _LETTERS[permissions]))
    return b",".join(items)


def resolver(passwd: bytes, group: bytes) -> Resolve:
    """Looks names up in the contents of a tree's own /etc/passwd and /etc/group."""
    known = {b"user": _numbers(passwd), b"group": _numbers(group)}

    def resolve(word: bytes, name: bytes) -> int:
        number = known[word].get(name)
        if number is None:
            raise ArchiveError(
                f"its ACL names the {word.decode()} {name.decode(errors='backslashreplace')!r}, "
                "which the tree does not know; make the archive with numeric ids"
            )
        return number

    return resolve


def _numbers(table: bytes) -> Mapping[bytes, int]:
    """Name -> number from passwd(5) or group(5); the first line of a name counts."""
    numbers: dict[bytes, int] = {}
    for line in table.split(b"\n"):
        fields = line.split(b":")
        if len(fields) > 2 and fields[2].isdigit() and len(fields[2]) <= _MOST_DIGITS:
            numbers.setdefault(fields[0], int(fields[2]))
    return numbers


def _line(item: bytes) -> Line:
    fields = [field.strip() for field in item.split(b":")]
    word = _LONG.get(fields[0], fields[0])
    if len(fields) == 2 and word in (b"mask", b"other"):
        fields.insert(1, b"")
    if len(fields) == 4 and fields[1] and fields[3].isdigit():
        fields = [fields[0], fields[3], fields[2]]
    tag = _TAGS.get((word, bool(fields[1:2] and fields[1])))
    if len(fields) != 3 or tag is None or not fields[2] or set(fields[2]) - _PERMISSIONS.keys():
        raise ArchiveError(f"{item[:60].decode(errors='backslashreplace')!r} is no ACL entry")
    if fields[1].isdigit() and len(fields[1]) > _MOST_DIGITS:
        raise ArchiveError(f"the id {fields[1][:20].decode()}... in its ACL is out of range")
    permissions = 0
    for letter in fields[2]:
        permissions |= _PERMISSIONS[letter]
    return Line(tag, word, fields[1], permissions)
