"""PAX extended headers: records, times and the keywords of GNU tar, star, libarchive and Solaris.

Sources: POSIX.1-2001 pax, "pax Extended Header"; GNU tar's manual, "Sparse Formats"; star(5);
libarchive's tar(5). Values are bytes and stay so; times are integers from end to end.
"""

import re
from binascii import Error as Base64Error
from binascii import a2b_base64

from oci.errors import ArchiveError

MAX_HEADER = 16 << 20
"""The most bytes that one extended header may have: room for hundreds of attributes of 64 KiB."""

Records = dict[bytes, bytes]

SPARSE_OFFSET = b"GNU.sparse.offset"
SPARSE_LENGTH = b"GNU.sparse.numbytes"

_XATTR = b"SCHILY.xattr."
_LIBARCHIVE_XATTR = b"LIBARCHIVE.xattr."
_SELINUX = b"RHT.security.selinux"
ACL_KEYS = {
    b"system.posix_acl_access": b"SCHILY.acl.access",
    b"system.posix_acl_default": b"SCHILY.acl.default",
}
"""The keywords for ACLs in text form, by the names of their attributes."""

_ACLS = {key: name for name, key in ACL_KEYS.items()}
_CHARSETS = (b"ISO-IR 10646 2000 UTF-8", b"BINARY")
_INTEGER = re.compile(rb"-?[0-9]{1,20}")
_TIME = re.compile(rb"(-?)([0-9]{1,20})(?:\.([0-9]{0,100}))?")
_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")
_SECONDS = 1 << 63


def parse(body: bytes) -> tuple[Records, list[int]]:
    """The records of an extended header, and its sparse map (format 0.0), whose keywords repeat.

    The map alternates offset and length. Raises ArchiveError where a record's length, its "=" or
    its newline is not where it belongs.
    """
    records: Records = {}
    sparse: list[int] = []
    start = 0
    while start < len(body):
        space = body.find(b" ", start, start + 20)
        digits = body[start:space]
        if space < 0 or not digits.isdigit():
            raise ArchiveError("a PAX record does not begin with its length")
        end = start + int(digits)
        equals = body.find(b"=", space + 1, end)
        if end > len(body) or equals <= space + 1 or body[end - 1 : end] != b"\n":
            raise ArchiveError("a PAX record is not as long as it says")
        key, value = body[space + 1 : equals], body[equals + 1 : end - 1]
        if key in (SPARSE_OFFSET, SPARSE_LENGTH):
            if (key == SPARSE_LENGTH) != len(sparse) % 2:
                raise ArchiveError("the sparse map is not made of offsets and lengths in turn")
            sparse.append(integer(value))
        else:
            records[key] = value
        start = end
    charset = records.get(b"hdrcharset")
    if charset and charset not in _CHARSETS:
        raise ArchiveError(f"the PAX header's character set {charset!r} is unknown")
    return records, sparse


def integer(value: bytes) -> int:
    """A decimal number."""
    if not _INTEGER.fullmatch(value):
        raise ArchiveError(f"{value[:40]!r} is not a number")
    return int(value)


def time(value: bytes) -> int:
    """A time in nanoseconds since the epoch; what is finer is rounded down."""
    parts = _TIME.fullmatch(value)
    if parts is None or int(parts[2]) >= _SECONDS:
        raise ArchiveError(f"{value[:40]!r} is not a time")
    fraction = parts[3] or b""
    nanoseconds = int(parts[2]) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0"))
    if parts[1]:
        return -nanoseconds - (1 if fraction[9:].strip(b"0") else 0)
    return nanoseconds


def format_time(nanoseconds: int) -> bytes:
    """A time as PAX has it: decimal seconds, exact, and no longer than needed."""
    seconds, fraction = divmod(abs(nanoseconds), 1_000_000_000)
    sign = b"-" if nanoseconds < 0 else b""
    if not fraction:
        return b"%s%d" % (sign, seconds)
    return (b"%s%d.%09d" % (sign, seconds, fraction)).rstrip(b"0")


def record(key: bytes, value: bytes) -> bytes:
    """One record; its length counts the digits that tell the length."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def xattr_key(name: bytes) -> bytes:
    """The keyword for an extended attribute, which must not hold "=": escaped as in GNU tar."""
    return _XATTR + name.replace(b"%", b"%25").replace(b"=", b"%3D")


def attributes(records: Records) -> tuple[Records, Records]:
    """The extended attributes that the records tell, by name, and the ACLs in text form."""
    xattrs: Records = {}
    acls: Records = {}
    for key, value in records.items():
        if key.startswith(_XATTR):
            name = key[len(_XATTR) :].replace(b"%3D", b"=").replace(b"%25", b"%")
            xattrs[name] = value
        elif key.startswith(_LIBARCHIVE_XATTR):
            name = _ESCAPED.sub(_unescape, key[len(_LIBARCHIVE_XATTR) :])
            xattrs.setdefault(name, _base64(value))
        elif key == _SELINUX:
            # The kernel's attribute ends in the NUL that setfilecon(3) writes with it.
            xattrs.setdefault(b"security.selinux", value + b"\0")
        elif key in _ACLS:
            if value:
                acls[_ACLS[key]] = value
        elif key == b"SCHILY.acl.ace":
            raise ArchiveError("it has an NFSv4 ACL, which Linux filesystems cannot keep")
    for name in xattrs:
        if not name or b"\0" in name:
            raise ArchiveError(f"{name!r} is not the name of an extended attribute")
        acls.pop(name, None)
    return xattrs, acls


def _unescape(escaped: re.Match[bytes]) -> bytes:
    return bytes((int(escaped[1], 16),))


def _base64(value: bytes) -> bytes:
    try:
        return a2b_base64(value + b"=" * (-len(value) % 4))
    except Base64Error as error:
        raise ArchiveError("an extended attribute is not valid base64") from error
