"""Digests of the OCI image-spec (descriptor.md, "Digests") and chain IDs (config.md)."""

import hashlib
import re
from collections.abc import Iterable

from oci.json import quoted

_SHA256 = re.compile(r"sha256:[a-f0-9]{64}")
_GRAMMAR = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")


class Digest(str):
    """`sha256:` and 64 hexadecimal digits; ValueError says what else a text is.

    The spec registers sha512 too. Docker's stores know sha256 only, and so do we.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> "Digest":
        if _SHA256.fullmatch(text):
            return super().__new__(cls, text)
        if _GRAMMAR.fullmatch(text) and not text.startswith("sha256:"):
            raise ValueError(f"is {quoted(text)}; digests other than sha256 are not supported")
        raise ValueError(f"is {quoted(text)} and not sha256: with 64 hexadecimal digits")

    @property
    def hex(self) -> str:
        """The 64 digits."""
        return self.removeprefix("sha256:")


def digest(data: bytes) -> Digest:
    """The sha256 digest of `data`."""
    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


def chain_ids(diff_ids: Iterable[str]) -> list[str]:
    """The chain IDs of layers, lowest first, from their diff IDs; "Layer ChainID" in config.md."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(digest(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return chain
