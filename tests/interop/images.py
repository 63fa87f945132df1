"""Images for tests with other programs: the steps in which one grows, and one made by hand."""

import io
import json
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from oci.digest import chain_ids, digest
from tests.oci.archives import END, header, member, pax
from tests.trees import fill, posix_acl

# struct vfs_cap_data, linux/capability.h, version 2: cap_net_raw+ep; cap_net_bind_service+ep.
_NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000")
_BIND_SERVICE = bytes.fromhex("0100000200040000000000000000000000000000")
_TIME = 1_650_000_000_987_654_321


def base(top: Path) -> None:
    """One of everything that a layer holds."""
    fill(top)
    (top / "var/socket").unlink()
    (top / "bin/ping").write_bytes(b"ping")
    os.setxattr(top / "bin/ping", "security.capability", _NET_RAW)
    (top / ("n" * 255)).touch()
    (top / "var/lib/deep/er").mkdir(parents=True)
    for number in range(5):
        (top / f"var/lib/deep/er/{number}").write_text(str(number))


def deletes(top: Path) -> None:
    """Files of every kind go, a directory with all that is in it, and the longest name."""
    for name in ("bin/self", "var/fifo", "var/disk", "etc/linked link"):
        (top / name).unlink()
    shutil.rmtree(top / "var/run")
    shutil.rmtree(top / "var/lib/deep")


def replaces(top: Path) -> None:
    """A file by a directory, a directory by a file and by a link, a link by a directory."""
    (top / "etc/empty").unlink()
    (top / "etc/empty/now").mkdir(parents=True)
    (top / "etc/empty/now/full").write_text("full")
    shutil.rmtree(top / "home/user")
    (top / "home/user").write_text("a file")
    shutil.rmtree(top / "var/empty")
    (top / "var/empty").symlink_to("../etc")
    (top / "etc/absolute").unlink()
    (top / "etc/absolute").mkdir(0o2750)


def links(top: Path) -> None:
    """Names for what lower layers brought, and for what is new; one of three names goes."""
    os.link(top / "bin/sh", top / "etc/shell")
    (top / "bin/bash").unlink()
    (top / "etc/one").write_text("one and the same")
    os.link(top / "etc/one", top / "var/two")
    os.link(top / "etc/one", top / "three")
    (top / "etc/soft").symlink_to("one")
    os.link(top / "etc/soft", top / "var/soft", follow_symlinks=False)


def describes(top: Path) -> None:
    """Modes, owners, times, attributes, capabilities and ACLs change, and content does not."""
    os.setxattr(top / "bin/ping", "security.capability", _BIND_SERVICE)
    os.removexattr(top / "etc/passwd", "user.note")
    os.setxattr(top / "etc/one", "user.new", b"\0=\n%\xff")
    acl = posix_acl((0x01, 6, -1), (0x02, 4, 7), (0x04, 4, -1), (0x10, 6, -1), (0x20, 0, -1))
    os.setxattr(top / "etc/shell", "system.posix_acl_access", acl)
    os.chown(top / "home/user", 70_000, 3_000_000_000)
    (top / "home/user").chmod(0o6711)
    os.utime(top / "etc/empty/now", ns=(_TIME, _TIME))
    os.utime(top / "var/empty", ns=(_TIME, -_TIME), follow_symlinks=False)
    # umoci leaves out of a layer a directory that is as it was, and on unpacking gives it its
    # time again when something in it is replaced; nobody else does that.
    for directory in ("bin", "etc", "home", "var", "."):
        os.utime(top / directory, ns=(_TIME, _TIME))


def renews(top: Path) -> None:
    """A directory is made anew with other things in it, and odd names and devices come."""
    shutil.rmtree(top / "etc/empty")
    (top / "etc/empty/other").mkdir(parents=True)
    (top / "etc/empty/other/file").write_text("other")
    os.mknod(top / "var/zero", 0o640 | stat.S_IFCHR, os.makedev(1, 5))
    os.mkfifo(top / "var/pipe")
    for name in ("new\nline", "\udcff\udcfe", "späte Kühe", "-rf", "a" * 150, "b" * 200 + " "):
        (top / "var/lib" / name).write_text(name, errors="surrogateescape")
    (top / "var/lib/wh.x").write_text("no whiteout")
    (top / "var/lib" / ("d" * 120)).mkdir()
    (top / "var/lib" / ("d" * 120) / ("f" * 120)).symlink_to("t" * 150)


STEPS = (deletes, replaces, links, describes, renews)
"""What is done to `base`, one step for a layer."""

CONFIG: dict[str, Any] = {
    "architecture": "amd64",
    "author": "A. <author@example.org> & co",
    "config": {
        "Cmd": ["sh", "-c", "echo <&>"],
        "Env": ["PATH=/bin", "EMPTY="],
        "ExposedPorts": {"80/tcp": {}},
        "Healthcheck": {"Interval": 3, "Test": ["NONE"]},
        "Labels": {"de": "Kühe", "empty": ""},
        "OnBuild": ["RUN true"],
        "StopSignal": "SIGRTMIN+3",
        "User": "7:8",
        "Volumes": {"/v": {}},
        "WorkingDir": "/etc",
        "x-config": [1, {"unknown": None}],
    },
    "created": "2020-02-02T02:02:02.020202020Z",
    "os": "linux",
    "os.version": "1.2.3",
    "x-unknown": {"z": 1, "a": [1.5, "two", True]},
}
"""A config with one of everything, some of which no specification knows."""


def by_hand(*, links_below: bool = True) -> list[bytes]:
    """Layers as no tool of today makes them, but the specification lets them be."""
    kept = (blocks for blocks in _layers() if links_below or blocks not in _LINKS_BELOW)
    return [b"".join(blocks) + END for blocks in kept]


def _layers() -> Iterator[list[bytes]]:
    yield [
        *(
            _directory(path)
            for path in (".", "early", "early/sub", "late", "late/sub", "links", "kept")
        ),
        *(
            member(path, path, mode=0o640, uid=7, mtime=1_600_000_000)
            for path in (b"early/a", b"early/sub/b", b"late/a", b"late/sub/b", b"links/one")
        ),
        member(b"file", b"a file"),
        _directory("directory"),
        member(b"directory/inside", b"inside"),
        header(b"link", b"2", link=b"kept"),
    ]
    # Opaque, said before and after what the layer brings.
    yield [
        _directory("early"),
        member(b"early/.wh..wh..opq"),
        member(b"early/new", b"new"),
        _directory("late"),
        member(b"late/new", b"new"),
        _directory("late/fresh"),
        member(b"late/fresh/c", b"c"),
        member(b"late/.wh..wh..opq"),
    ]
    yield from _LINKS_BELOW
    # Other types without a whiteout, and whiteouts of nothing.
    yield [
        _directory("file"),
        member(b"file/inside", b"inside"),
        member(b"directory", b"a file"),
        _directory("link"),
        member(b"link/inside", b"inside"),
        member(b".wh.nothing"),
        *map(_directory, (".", "kept")),
    ]
    # The same as PAX and GNU tar write it, in one archive.
    yield [
        pax(
            (b"path", b"kept/" + b"p" * 180),
            (b"mtime", b"1600000000.123456789"),
            (b"uid", b"3000000000"),
            (b"SCHILY.xattr.user.note", b"\0\n=\xff"),
        ),
        member(b"kept/short", b"pax"),
        header(b"././@LongLink", b"L", 186),
        (b"kept/" + b"g" * 180 + b"\0").ljust(512, b"\0"),
        member(b"kept/short", b"gnu", magic=b"ustar  \0"),
        _directory("kept"),
    ]
    # Nothing at all, as Docker has for a step that changes nothing.
    yield []


def _directory(path: str) -> bytes:
    block: bytes = header(path.encode() + b"/", b"5", mode=0o755, mtime=1_500_000_000)
    return block


# A link to what a lower layer has, which then loses the name that was linked to.
_LINKS_BELOW = (
    [
        _directory("links"),
        header(b"links/two", b"1", link=b"links/one", mode=0o640, uid=7, mtime=1_600_000_000),
    ],
    [_directory("links"), member(b"links/.wh.one")],
)


def config_of(layers: list[bytes], **changed: Any) -> bytes:
    """The config of an image with these layers; written with spaces, as hardly anybody does."""
    history: list[dict[str, Any]] = [
        {"created_by": f"step {number}"} for number in range(len(layers))
    ]
    history.insert(1, {"created_by": "ENV", "empty_layer": True, "x-history": 1})
    diff_ids = [digest(layer) for layer in layers]
    whole = {**CONFIG, "history": history, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    return json.dumps({**whole, **changed}, indent=1).encode()


def docker_archive(path: Path, name: str, layers: list[bytes], **changed: Any) -> None:
    """An archive as Docker wrote it from 1.10 to 24; `changed` are fields of the config."""
    config = config_of(layers, **changed)
    ids = [chain.removeprefix("sha256:") for chain in chain_ids([digest(each) for each in layers])]
    document = f"{digest(config).removeprefix('sha256:')}.json"
    paths = [f"{id}/layer.tar" for id in ids]
    manifest = [{"Config": document, "RepoTags": [name], "Layers": paths}]
    files = {document: config, "manifest.json": json.dumps(manifest).encode()}
    write_tar(path, {**dict(zip(paths, layers, strict=True)), **files})


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def read_tar(path: Path) -> dict[str, bytes]:
    """The files of an archive of images, by path; links are followed."""
    with tarfile.open(path) as tar:
        return {
            each.name: file.read()
            for each in tar
            if not each.isdir() and (file := tar.extractfile(each)) is not None
        }
