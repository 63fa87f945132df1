"""Archives for tests, made by GNU tar or block by block, and what this project makes of them."""

import io
import subprocess
from pathlib import Path

from oci import layer

END = bytes(1024)


def header(name, kind=b"0", size=0, *, link=b"", magic=b"ustar\x0000", **fields):
    """A header block as POSIX describes it, whatever nonsense is to be in it."""
    octal = {"mode": 0o644, "uid": 0, "gid": 0, "mtime": 0, "major": 0, "minor": 0, **fields}
    raw = {key: v if isinstance(v, bytes) else b"%07o\0" % v for key, v in octal.items()}
    mtime = octal["mtime"]
    block = bytearray(512)
    for start, value in (
        (0, name[:100]),
        (100, raw["mode"]),
        (108, raw["uid"]),
        (116, raw["gid"]),
        (124, size if isinstance(size, bytes) else b"%011o\0" % size),
        (136, mtime if isinstance(mtime, bytes) else b"%011o\0" % mtime),
        (148, b" " * 8),
        (156, kind),
        (157, link[:100]),
        (257, magic),
        (329, raw["major"]),
        (337, raw["minor"]),
        (345, octal.get("prefix", b"")),
    ):
        block[start : start + len(value)] = value
    return summed(block)


def summed(block):
    """The block with the checksum that it ought to have."""
    block = bytearray(block)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def body(data):
    """A body, filled up to whole blocks."""
    return data + bytes(-len(data) % 512)


def member(name, data=b"", **fields):
    """A regular file."""
    return header(name, size=len(data), **fields) + body(data)


def pax(*records, kind=b"x"):
    """An extended header of these records, given as (key, value)."""
    return extended(b"".join(pax_record(*record) for record in records), kind)


def extended(data, kind=b"x"):
    """An extended header with this body, right or wrong."""
    return header(b"PaxHeaders/x", kind, len(data)) + body(data)


def pax_record(key, value):
    length = 0
    while len(text := b"%d %b=%b\n" % (length, key, value)) != length:
        length = len(text)
    return text


def apply(archive, tree):
    """Apply bytes, or what a path or a sequence of blocks holds, to a new or existing tree."""
    Path(tree).mkdir(exist_ok=True)
    if isinstance(archive, Path):
        with archive.open("rb") as source:
            return layer.apply(source, str(tree))
    if not isinstance(archive, bytes):
        archive = b"".join(archive) + END
    return layer.apply(io.BytesIO(archive), str(tree))


def make(tree):
    """The archive of a tree."""
    out = io.BytesIO()
    layer.make(str(tree), out)
    return out.getvalue()


def gnu_tar(*arguments, data=None):
    """What GNU tar writes to its standard output; it must succeed."""
    return subprocess.run(
        ["tar", *map(str, arguments)], input=data, stdout=subprocess.PIPE, check=True
    ).stdout
