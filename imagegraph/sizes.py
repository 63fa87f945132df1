"""Sizes in bytes, as people write them and as Docker's tables print them."""

import re

from imagegraph.errors import StoreError

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_SIZE_MAX = 2**63 - 1


def parse_size(text: str) -> int:
    """Bytes that `text` stands for: 10G, 512m, 1.5GiB, 4096; units are powers of 1024.

    The grammar of Docker's options (docker/go-units, RAMInBytes), but computed exactly; a fraction
    of a byte is dropped. Raises StoreError.
    """
    match = re.fullmatch(
        r"(?P<whole>[0-9]*)(?:\.(?P<part>[0-9]*))? ?(?:(?P<unit>[kmgtp])(?:i?b)?|b)?",
        text,
        re.ASCII | re.IGNORECASE,
    )
    whole, part = (match["whole"] or "", match["part"] or "") if match else ("", "")
    if match is None or not whole + part or len(text) > 64:
        raise StoreError(
            f"invalid size {text[:64]!r}: write a number and a unit (b, k, m, g, t, p), e.g. 1.5g"
        )
    digits = int(whole + part) << 10 * " kmgtp".index((match["unit"] or " ").lower())
    size = digits // int(f"1{'0' * len(part)}")
    if size > _SIZE_MAX:
        raise StoreError(f"invalid size {text!r}: it must be less than 8192p")
    return size


def human_size(size: int) -> str:
    """Bytes to three digits in decimal units, as `docker images` prints them: 0B, 123MB, 1.24GB."""
    number, unit = float(size), 0
    # 999.5 and more would round to 1000, which Docker prints as 1e+03.
    while number >= 999.5 and unit < len(_DECIMAL) - 1:
        number /= 1000
        unit += 1
    return f"{number:.3g}{_DECIMAL[unit]}"
