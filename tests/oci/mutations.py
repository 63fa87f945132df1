"""Damage to bytes, for hypothesis to choose: to single ones, to numbers, and to whole blocks."""

from typing import NamedTuple

from hypothesis import strategies as st

from tests.oci.archives import summed

BLOCK = 512
_HEADER_MAGIC = b"ustar"

_VALUES = (
    b"\0", b"\xff", b"/", b"../", b"\xff" * 12, b"\x80" + b"\x7f" * 11, b"77777777777\0", b"-1",
    b"00000000000\0", b"\x80" + bytes(10) + b"\1", b".wh.", b".wh..wh..opq\0", b"\n", b'"', b"[",
    b"{", b"9" * 20, b"null", b"1e9", b"\\ud800", b"99999999", b"sha256:", b"\x1f\x8b",
)  # fmt: skip


class Damage(NamedTuple):
    """What is done, where, and with what; `at` is any number, taken modulo what there is."""

    kind: str
    at: int
    value: bytes
    other: int


_AT = st.integers(0, 1 << 20)
DAMAGES = st.lists(
    st.builds(
        Damage,
        st.sampled_from(
            ["flip", "put", "insert", "cut", "drop", "repeat", "swap", "zero", "type", "splice"]
        ),
        _AT,
        st.one_of(st.sampled_from(_VALUES), st.binary(min_size=1, max_size=8)),
        _AT,
    ),
    min_size=1,
    max_size=6,
)


def damaged(data: bytes, damages: list[Damage], other: bytes = b"") -> bytes:
    """`data` after all of it; blocks of `other` are spliced in."""
    for damage in damages:
        data = _damaged(data, damage, other or data)
    return data


def resummed(data: bytes) -> bytes:
    """The archive with all checksums right, so that readers look at what else is wrong."""
    blocks = [data[start : start + BLOCK] for start in range(0, len(data), BLOCK)]
    return b"".join(
        summed(block) if len(block) == BLOCK and block[257:262] == _HEADER_MAGIC else block
        for block in blocks
    )


def _damaged(data: bytes, damage: Damage, other: bytes) -> bytes:
    at = damage.at % (len(data) or 1)
    block = at // BLOCK * BLOCK
    taken = damage.other % (len(other) or 1) // BLOCK * BLOCK
    match damage.kind:
        case "flip":
            flipped = bytes([data[at] ^ 1 << damage.other % 8]) if data else b""
            return data[:at] + flipped + data[at + 1 :]
        case "put":
            return data[:at] + damage.value + data[at + len(damage.value) :]
        case "insert":
            return data[:at] + damage.value + data[at:]
        case "cut":
            return data[:at]
        case "drop":
            return data[:block] + data[block + BLOCK :]
        case "repeat":
            return data[: block + BLOCK] + data[block:]
        case "swap":
            first = damage.other % (len(data) or 1) // BLOCK * BLOCK
            low, high = sorted((first, block))
            one, two = data[low : low + BLOCK], data[high : high + BLOCK]
            return data[:low] + two + data[low + len(one) : high] + one + data[high + len(two) :]
        case "zero":
            return data[:block] + bytes(BLOCK) + data[block + BLOCK :]
        case "type":
            return data[: block + 156] + damage.value[:1] + data[block + 157 :]
        case _:
            return data[:block] + other[taken : taken + BLOCK] + data[block:]
