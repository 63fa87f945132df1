"""Labels of devices, which say what pool a device is part of.

Source: the on-disk format of vdev labels (module/zfs/vdev_label.c of OpenZFS 2.3.2): four of
256 KiB, two at each end, each with a name-value list at 16 KiB.
"""

import os
from typing import Any

from backends.libzfs import run
from backends.libzfs.errors import ZFSException
from backends.libzfs.nvlist import unpack_xdr

_LABEL = 256 << 10
_LABEL_NVLIST = 16 << 10
_LABEL_NVLIST_SIZE = 112 << 10


def read_label(device: str) -> dict[str, Any]:
    """The configuration in the label of a device or file that is or was part of a pool.

    Of its four labels, the one written last. Raises OSError if there is none.
    """
    with open(device, "rb") as file:
        size = file.seek(0, os.SEEK_END) // _LABEL * _LABEL
        found = []
        for start in (0, _LABEL, size - 2 * _LABEL, size - _LABEL):
            if start < 0:
                continue
            file.seek(start + _LABEL_NVLIST)
            try:
                found.append(unpack_xdr(file.read(_LABEL_NVLIST_SIZE)))
            except ValueError:
                continue
    if not found:
        raise OSError(22, "Cannot read label", device)
    return max(found, key=lambda label: int(label.get("txg", 0)))


def clear_label(device: str) -> None:
    """Take away what marks the device or file as part of a pool. Raises OSError."""
    try:
        run.run(["zpool", "labelclear", "-f", device])
    except ZFSException as error:
        raise OSError(22, f"Failed to clear zpool label for {device}: {error}") from error
