"""What is mounted in a container, and in which order."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import RunError
from runtime.mounts import Bind
from tests.conftest import require
from tests.runtime.documents import made, mounted


def test_the_standard_mounts_are_dockers() -> None:
    found = mounted(made())
    assert list(found) == ["/proc", "/dev", "/dev/pts", "/sys", "/dev/mqueue", "/sys/fs/cgroup",
                           "/dev/shm"]  # fmt: skip
    assert found["/dev"]["options"] == ["nosuid", "strictatime", "mode=755", "size=65536k"]
    assert {"newinstance", "ptmxmode=0666", "mode=0620", "gid=5"} <= {*found["/dev/pts"]["options"]}
    assert "ro" in found["/sys"]["options"] and "ro" in found["/sys/fs/cgroup"]["options"]
    assert "size=67108864" in found["/dev/shm"]["options"]
    assert "/sys/fs/cgroup" not in mounted(made(cgroup=None))


def test_shared_memory_is_of_the_size_asked_for_or_the_hosts_or_none() -> None:
    assert "size=4096" in mounted(made({"ShmSize": 4096}))["/dev/shm"]["options"]
    assert "/dev/shm" not in mounted(made({"IpcMode": "none"}))
    hosts = mounted(made({"IpcMode": "host"}))["/dev/shm"]
    assert (hosts["type"], hosts["source"]) == ("bind", "/dev/shm")


def test_a_parent_is_mounted_before_what_lies_in_it_and_all_after_the_standard() -> None:
    binds = tuple(Bind("/x", target, False, ()) for target in ("/a/b/c", "/a", "/b", "/a/b"))
    document = made({"Tmpfs": {"/a/b/c/d": ""}}, binds=binds)
    targets = [mount["destination"] for mount in document["mounts"]]
    assert targets[-5:] == ["/a", "/b", "/a/b", "/a/b/c", "/a/b/c/d"]
    assert targets.index("/sys") < targets.index("/a")


def test_what_the_user_mounts_takes_the_place_of_the_standard() -> None:
    found = mounted(made(binds=(Bind("/dev", "/dev/", False, ()),)))
    assert found["/dev"]["type"] == "bind"
    assert not [path for path in found if path.startswith("/dev/")]
    shm = mounted(made({"Tmpfs": {"/dev/shm": "size=1m"}}))
    assert shm["/dev/shm"]["options"][-1] == "size=1m" and "/dev/pts" in shm


@pytest.mark.parametrize(
    ("bind", "options"),
    [
        (Bind("/x", "/y", False, ()), ["rbind", "rprivate"]),
        (Bind("/usr", "/y", True, ()), ["rbind", "rprivate", "ro", "rro"]),
        (Bind("/etc/passwd", "/y", True, ()), ["rbind", "rprivate", "ro"]),
        (Bind("/x", "/y", True, ("bind", "rprivate")), ["bind", "private", "ro"]),
        (Bind("/x", "/y", False, ("nosuid",)), ["rbind", "nosuid", "rprivate"]),
    ],
)
def test_a_bind_is_recursive_and_private_unless_it_says_otherwise(
    bind: Bind, options: list[str]
) -> None:
    found = mounted(made(binds=(bind,)))["/y"]
    assert found == {"destination": "/y", "type": "bind", "source": bind.source, "options": options}


@pytest.mark.parametrize("twice", [{"Tmpfs": {"/y": ""}}, {"Tmpfs": {"/y/": "", "/y/../y": ""}}])
def test_one_place_takes_one_mount(twice: dict[str, Any]) -> None:
    with pytest.raises(RunError, match="/y is to be mounted on twice"):
        made(twice, binds=(Bind("/x", "//y", False, ()),))


@pytest.mark.parametrize("target", ["/proc", "//proc/", "/x/../proc/self/attr", "/proc/sys"])
def test_nothing_hides_proc_but_what_only_counts(target: str) -> None:
    with pytest.raises(RunError, match="nothing can be mounted on /proc"):
        made(binds=(Bind("/x", target, False, ()),))
    with pytest.raises(RunError, match="nothing can be mounted on /proc"):
        made({"Tmpfs": {target: ""}})
    assert "/proc/meminfo" in mounted(made(binds=(Bind("/x", "/proc/meminfo", True, ()),)))


def test_a_tmpfs_runs_nothing_unless_it_is_told_to() -> None:
    asked = {"/t": "", "/e": "exec,size=5m,mode=1770,size=6m", "/r": "rw,ro,dev"}
    mount = {"Type": "tmpfs", "Target": "/m", "ReadOnly": True,
             "TmpfsOptions": {"SizeBytes": 4096, "Mode": 0o1700}}  # fmt: skip
    found = mounted(made({"Tmpfs": asked, "Mounts": [mount, {"Type": "bind"}]}))
    assert found["/t"]["options"] == ["noexec", "nosuid", "nodev", "rprivate"]
    assert found["/e"]["options"] == ["exec", "nosuid", "nodev", "rprivate", "size=6m", "mode=1770"]
    assert found["/r"]["options"] == ["noexec", "nosuid", "dev", "rprivate", "ro"]
    assert found["/m"]["options"][-3:] == ["ro", "mode=1700", "size=4096"]


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A mount point whose mount is shared, with a slave of it in `slave`, and a private one."""
    require("root")
    points = [tmp_path / name for name in ("private", "shared", "slave")]
    with contextlib.ExitStack() as stack:
        for point in points:
            point.mkdir()
            source = tmp_path / "shared" if point.name == "slave" else point
            subprocess.run(["mount", "--bind", source, point], check=True)
            stack.callback(subprocess.run, ["umount", point], check=True)
            subprocess.run(["mount", f"--make-{point.name}", point], check=True)
        yield tmp_path


@pytest.mark.parametrize(
    ("name", "options", "root"),
    [
        ("private", ("rprivate",), None),
        ("private", ("rshared",), "refused"),
        ("private", ("slave",), "refused"),
        ("slave", ("shared",), "refused"),
        ("slave", ("rslave",), "rslave"),
        ("shared", ("rslave",), "rslave"),
        ("shared", ("bind", "shared"), "shared"),
    ],
)
def test_mounts_pass_only_where_the_hosts_does_so(
    shared: Path, name: str, options: tuple[str, ...], root: str | None
) -> None:
    bind = Bind(str(shared / name), "/y", False, options)
    if root == "refused":
        with pytest.raises(RunError, match=f"mount --make-rshared {shared}/{name} changes that"):
            made(binds=(bind,))
    else:
        assert made(binds=(bind,))["linux"].get("rootfsPropagation") == root


def test_of_a_shared_bind_and_a_slave_the_shared_counts(shared: Path) -> None:
    binds = [
        Bind(str(shared / "shared"), f"/{options}", False, (options,))
        for options in ("rslave", "rshared", "slave")
    ]
    assert made(binds=tuple(binds))["linux"]["rootfsPropagation"] == "shared"
