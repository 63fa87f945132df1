"""Encryption of datasets: keys loaded, unloaded, checked and changed.

A key given as an argument goes to the command through its stdin; it touches no disk.
"""

import errno
import os
import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from backends.libzfs import run
from backends.libzfs.enums import Error
from backends.libzfs.errors import ZFSException, from_stderr
from backends.libzfs.objects import ZFSObject
from backends.libzfs.run import options

if TYPE_CHECKING:
    from backends.libzfs.datasets import ZFSDataset

Key = str | bytes


def key_bytes(key: Key) -> bytes:
    """A key as the command reads it."""
    return key.encode() if isinstance(key, str) else key


def take_key(properties: dict[str, object]) -> tuple[bytes | None, dict[str, object]]:
    """The key among the properties of a dataset to be made, and the properties without it.

    Raises ZFSException if the dataset is to be encrypted with a key that is not there.
    """
    rest = dict(properties)
    encrypted = rest.get("encryption", "off") != "off"
    if not encrypted or rest.get("keylocation", "prompt") != "prompt":
        return None, rest
    if "key" not in rest:
        raise _refusal('Key must be supplied when key location is "prompt"')
    key = cast("Key", rest.pop("key"))
    rest["keylocation"] = "prompt"
    return key_bytes(key), rest


def location(text: str) -> str:
    """A key's location: a path of a file that exists becomes a file:// address."""
    if not urllib.parse.urlparse(text).scheme and os.path.exists(text):
        return f"file://{text}"
    return text


def _refusal(message: str) -> ZFSException:
    """Arguments that do not go together; py-libzfs gives these errno's number."""
    return ZFSException(errno.EINVAL, message)


class Encryption(ZFSObject):
    """What a dataset can say of its encryption and do with its key."""

    @property
    def encrypted(self) -> bool:
        """Whether it is encrypted."""
        return self._text("encryption") not in ("off", "")

    @property
    def key_location(self) -> str:
        """Where its key comes from: prompt, none, or an address."""
        return self._text("keylocation")

    @property
    def encryption_root(self) -> "ZFSDataset | None":
        """The dataset whose key it uses: itself, an ancestor, or None."""
        root = self._text("encryptionroot")
        if not root or root == "-":
            return None
        return cast("ZFSDataset", self) if root == self._name else self.root._dataset(root)

    @property
    def key_loaded(self) -> bool:
        """Whether its key is there."""
        return self._text("keystatus") == "available"

    def _text(self, name: str) -> str:
        row = self._rows().get(name)
        return row.raw if row else ""

    def load_key(
        self, recursive: bool = False, key: Key | None = None, key_location: str | None = None
    ) -> None:
        """Load the key: from where keylocation says, from `key_location`, or `key` itself.

        `recursive` loads the keys of all encryption roots below, each from its own location;
        those that prompt are left out. Raises ZFSException(CRYPTO_FAILED).
        """
        self._load(recursive, key, key_location, [])

    def check_key(self, key: Key | None = None, key_location: str | None = None) -> bool:
        """Whether the key fits; nothing is loaded."""
        try:
            self._load(False, key, key_location, ["-n"])
        except ZFSException:
            return False
        return True

    def _load(
        self, recursive: bool, key: Key | None, key_location: str | None, extra: list[str]
    ) -> None:
        if recursive and (key_location or key):
            raise _refusal("Key location or key cannot be provided with recursive option")
        if key and key_location:
            raise _refusal("Key cannot be provided with key location")
        if recursive:
            self._each_root(load=True)
            return
        if not key and not key_location and self.key_location == "prompt":
            raise _refusal("Key or key location must be provided as default key location is prompt")
        where = ["-L", "prompt"] if key else []
        if key_location:
            where = ["-L", location(key_location)]
        argv = ["zfs", "load-key", *extra, *where, self._name]
        self._forget()
        run.run(argv, feed=key_bytes(key) if key else None)

    def unload_key(self, recursive: bool = False) -> None:
        """Forget the key; `recursive`, those of all encryption roots below too."""
        if recursive:
            self._each_root(load=False)
            return
        self._forget()
        run.run(["zfs", "unload-key", self._name])

    def _each_root(self, load: bool) -> None:
        """Load or unload the key of every encryption root of the subtree that needs it."""
        dataset = cast("ZFSDataset", self)
        failed: list[str] = []
        tried = 0
        for each in (dataset, *dataset.children_recursive):
            if each._text("encryptionroot") != each.name or each.key_loaded == load:
                continue
            if load and each.key_location == "prompt":
                continue
            tried += 1
            argv = ["zfs", "load-key" if load else "unload-key", each.name]
            done = run.attempt(argv)
            if done.status:
                failed.append(str(from_stderr(argv, done.stderr, done.status)))
        self._forget()
        if failed:
            verb = "loaded" if load else "unloaded"
            raise ZFSException(
                Error.CRYPTO_FAILED,
                "; ".join([*failed, f"{tried - len(failed)}/{tried} key(s) successfully {verb}"]),
            )

    def change_key(
        self,
        props: Mapping[str, str] | None = None,
        load_key: bool = False,
        inherit: bool = False,
        key: Key | None = None,
    ) -> None:
        """Give the dataset another key (keyformat, keylocation, pbkdf2iters), or, with `inherit`,
        its parent's. A `key` goes with keylocation "prompt"."""
        wanted = dict(props or {})
        if not self.encrypted:
            raise _refusal(f"{self._name} is not encrypted")
        if wanted and inherit:
            raise _refusal("Properties not allowed for inheriting")
        if inherit and self._text("encryptionroot") != self._name:
            raise _refusal(f"{self._name} must be an encryption root to inherit")
        for name in wanted:
            if name not in ("keyformat", "keylocation", "pbkdf2iters"):
                raise _refusal(f"{name} property not valid when changing key")
        if "keylocation" in wanted:
            wanted["keylocation"] = location(wanted["keylocation"])
        if key and wanted.get("keylocation") != "prompt":
            raise _refusal("Key should not be provided if key location is not prompt.")
        if not key and wanted.get("keylocation") == "prompt":
            raise _refusal("Key is required when keylocation is set to prompt")
        if load_key and not self.key_loaded:
            self.load_key()
        argv = ["zfs", "change-key", *(["-i"] if inherit else []), *options(wanted), self._name]
        self._forget()
        run.run(argv, feed=key_bytes(key) if key else None)
