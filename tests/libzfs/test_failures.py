"""What goes wrong with real pools: in use, full, suspended, taken away, refused."""

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from backends import libzfs
from tests.libzfs.conftest import command, vdev

E = libzfs.Error


def code_of(call, *arguments):
    with pytest.raises(libzfs.ZFSException) as caught:
        call(*arguments)
    return caught.value.code


def answers(calls) -> dict[str, str]:
    """What each call is refused with: the name of its error; nothing if it is not refused."""
    found = {}
    for name, call in calls.items():
        try:
            call()
        except libzfs.ZFSException as error:
            found[name] = libzfs.Error(error.code).name
    return found


def eventually(call):
    """Call until it is no longer refused: what used the dataset takes its time to let go."""
    for _ in range(100):
        try:
            return call()
        except libzfs.ZFSException:
            time.sleep(0.1)
    return call()


def test_a_dataset_that_a_process_is_in_is_busy(dataset, tree):
    with (tree / "open").open("w"):
        assert code_of(dataset.umount) is E.UMOUNTFAILED
        assert code_of(dataset.delete) is E.BUSY
    # Mounted is in use, as in libzfs: the command would unmount it.
    assert code_of(dataset.delete) is E.BUSY
    assert tree.joinpath("open").exists()
    dataset.umount()
    dataset.delete()


def test_a_dataset_mounted_in_another_namespace_is_busy(dataset, tree):
    argv = ["unshare", "--mount", "sh", "-c", "echo; read end"]
    holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holder:
        holder.stdout.readline()
        dataset.umount()
        assert dataset.mountpoint is None
        assert code_of(dataset.delete) is E.BUSY
        dataset.snapshot(f"{dataset.name}@s")
        dataset.destroy_snapshot("s")
        holder.communicate(b"\n")
    eventually(dataset.delete)


def test_a_full_pool_refuses_what_needs_room_and_lets_go_of_the_rest(zfs, disks, names, tmp_path):
    pool = zfs.create(names(), {"data": [vdev(zfs, "file", *disks(1))]}, {},
                      {"mountpoint": str(tmp_path / "m"), "compression": "off"})  # fmt: skip
    pool.create(f"{pool.name}/a", {})
    a = zfs.get_dataset(f"{pool.name}/a")
    a.mount()
    a.snapshot(f"{a.name}@before")
    with open(f"{a.mountpoint}/fill", "wb", buffering=0) as file, pytest.raises(OSError) as full:
        while True:
            file.write(bytes(8 << 20))
            os.fsync(file.fileno())
    assert full.value.errno == errno.ENOSPC
    volume = libzfs.DatasetType.VOLUME
    calls = {
        "volume": lambda: pool.create(f"{pool.name}/v", {"volsize": "64M"}, volume),
        "clone": lambda: zfs.get_snapshot(f"{a.name}@before").clone(f"{pool.name}/c"),
        "reserve": lambda: a.update_properties({"reservation": {"value": "100M"}}),
    }
    assert answers(calls) == {"volume": "NOSPC", "clone": "NOSPC", "reserve": "PROPSPACE"}
    zfs.get_snapshot(f"{a.name}@before").rollback()
    assert os.listdir(a.mountpoint) == []
    a.umount()
    for each in list(a.dependents):
        each.delete()
    a.delete()


def test_a_pool_that_is_exported_under_way_is_not_there(zfs, disks, names):
    paths = disks(1)
    pool = zfs.create(names(), {"data": [vdev(zfs, "file", *paths)]}, {}, {"mountpoint": "none"})
    for name in ("a", "b"):
        command("zfs", "create", f"{pool.name}/{name}")
        command("zfs", "snapshot", f"{pool.name}/{name}@s")
    children, later = pool.root_dataset.children, pool.root_dataset.snapshots_recursive
    first = next(children)
    snapshot = zfs.get_snapshot(f"{first.name}@s")
    command("zpool", "export", pool.name)
    second = next(children)
    calls = {
        "properties": lambda: second.properties,
        "snapshots": lambda: list(later),
        "clone": lambda: snapshot.clone(f"{pool.name}/c"),
        "hold": lambda: snapshot.hold("x"),
        "promote": first.promote,
        "bookmark": lambda: snapshot.bookmark("b"),
        "scrub": pool.start_scrub,
        "rename": lambda: first.rename(f"{pool.name}/z"),
        "program": lambda: libzfs.program(pool.name, "return 1"),
        "create": lambda: pool.create(f"{pool.name}/d", {}),
        "get": lambda: zfs.get(pool.name),
    }
    assert answers(calls) == dict.fromkeys(calls, "NOENT")
    # What is to go and is gone is no error.
    second.delete()
    libzfs.destroy_snapshots(first.name, ["s"])
    (found,) = zfs.find_import(search_paths=[str(Path(paths[0]).parent)], name=pool.name)
    zfs.import_pool(found, pool.name, {})
    assert first.properties["used"].parsed > 0


@pytest.fixture
def fragile(zfs, names, tmp_path):
    """A pool on a disk that can be made to refuse writes: a sparse file in a small tmpfs."""
    small = tmp_path / "small"
    small.mkdir()
    command("mount", "-t", "tmpfs", "-o", "size=96M", "none", str(small))
    with (small / "disk").open("wb") as disk:
        disk.truncate(256 << 20)
    options = {"mountpoint": str(tmp_path / "m")}
    pool = zfs.create(names(), {"data": [vdev(zfs, "file", f"{small}/disk")]}, {}, options)
    try:
        yield pool, small / "filler"
    finally:
        (small / "filler").unlink(missing_ok=True)
        command("zpool", "clear", pool.name)
        command("zpool", "destroy", "-f", pool.name)
        command("umount", str(small))


def until_suspended(zfs, name) -> None:
    for _ in range(100):
        if zfs.get(name).properties["health"].value == "SUSPENDED":
            return
        time.sleep(0.3)
    pytest.fail("the pool is not suspended")


def test_a_suspended_pool_is_told_apart_and_goes_on_after_clear(zfs, fragile):
    pool, filler = fragile
    pool.create(f"{pool.name}/a", {})
    a = zfs.get_dataset(f"{pool.name}/a")
    a.mount()
    a.snapshot(f"{a.name}@s")
    snapshot = zfs.get_snapshot(f"{a.name}@s")
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(1 << 20))
    errors = []

    def write() -> None:
        try:
            with open(f"{a.mountpoint}/f", "wb") as file:
                file.write(os.urandom(32 << 20))
                os.fsync(file.fileno())
        except OSError as error:
            errors.append(error)

    under_way = threading.Thread(target=write)
    under_way.start()
    try:
        until_suspended(zfs, pool.name)
        calls = {
            "get": lambda: zfs.get_dataset(a.name),
            "snapshot": lambda: a.snapshot(f"{a.name}@t"),
            "clone": lambda: snapshot.clone(f"{pool.name}/c"),
            "hold": lambda: snapshot.hold("x"),
            "list": lambda: list(a.snapshots),
            "tree": lambda: list(zfs.datasets_serialized(datasets=[a.name])),
            "delete": snapshot.delete,
            "delete many": lambda: libzfs.destroy_snapshots(a.name, ["s"]),
            "bookmark": lambda: snapshot.bookmark("b"),
            "rename": lambda: a.rename(f"{pool.name}/z"),
            "program": lambda: libzfs.program(pool.name, "return 1"),
        }
        assert answers(calls) == dict.fromkeys(calls, "POOLUNAVAIL")
        # `zpool export` of OpenZFS 2.1 says that the pool is busy, that of 2.3 nothing.
        assert code_of(zfs.export_pool, pool) in (E.BUSY, E.UNKNOWN)
        suspended = zfs.get(pool.name)
        assert suspended.status_code is libzfs.PoolStatus.IO_FAILURE_WAIT
        assert not suspended.healthy
    finally:
        filler.unlink()
        assert pool.clear()
        under_way.join()
    assert errors == []
    assert eventually(lambda: zfs.get_snapshot(snapshot.name)) == snapshot
    eventually(snapshot.delete)


AS_NOBODY = """
import sys
from backends import libzfs
name, zfs = sys.argv[1], libzfs.ZFS()
dataset = zfs.get_dataset(name)
def say(call, *arguments):
    try: call(*arguments)
    except libzfs.ZFSException as error: print(error.code.name)
    else: print("done")
say(dataset.snapshot, name + "@mine")
say(dataset.destroy_snapshot, "first")
say(zfs.get_snapshot(name + "@first").clone, name + "/clone")
say(zfs.get_snapshot(name + "@first").hold, "tag")
say(dataset.pool.create, name + "/child", {})
say(dataset.update_properties, {"org.x:a": {"value": "b"}})
say(dataset.promote)
say(libzfs.program, dataset.pool.name, "return 1")
say(dataset.pool.start_scrub)
say(zfs.get_snapshot(name + "@first").rename, "@second")
print(len(list(dataset.snapshots)), dataset.properties["used"].parsed > 0)
"""


def as_nobody(dataset) -> list[str]:
    argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    root = Path(__file__).parents[2]
    done = subprocess.run([*argv, sys.executable, "-c", AS_NOBODY, dataset.name], cwd=root,
                          capture_output=True, text=True)  # fmt: skip
    return done.stdout.split("\n")[:-1] or [done.stderr]


def test_another_user_may_do_what_was_delegated_and_nothing_else(dataset):
    dataset.snapshot(f"{dataset.name}@first")
    *refused, listed = as_nobody(dataset)
    assert refused == ["PERM"] * 6 + ["BADTYPE", "PERM", "PERM", "PERM"]
    assert listed == "1 True"
    command("zfs", "allow", "nobody", "snapshot,hold,userprop", dataset.name)
    *answers, listed = as_nobody(dataset)
    expected = ["done", "PERM", "PERM", "done", "PERM", "done", "BADTYPE", "PERM", "PERM", "PERM"]
    assert answers == expected
    assert listed == "2 True"
    command("zfs", "release", "tag", f"{dataset.name}@first")


def test_an_origin_that_was_destroyed_behind_our_back_is_not_there(zfs, dataset):
    dataset.snapshot(f"{dataset.name}@s")
    snapshot = zfs.get_snapshot(f"{dataset.name}@s")
    snapshot.clone(f"{dataset.name}/clone")
    clone = zfs.get_dataset(f"{dataset.name}/clone")
    waiting = [clone, *dataset.dependents]
    command("zfs", "destroy", "-R", snapshot.name)
    calls = {
        "clone": lambda: snapshot.clone(f"{dataset.name}/other"),
        "promote": clone.promote,
        "holds": lambda: snapshot.holds,
        "space": snapshot.get_send_space,
        "dependents": lambda: list(snapshot.dependents),
        "rollback": snapshot.rollback,
        "diff": lambda: list(clone.diff("@s")),
        "snapshot": lambda: clone.snapshot(f"{clone.name}@t"),
        "refresh": lambda: snapshot.properties["used"].refresh(),
        "rename": lambda: clone.rename(f"{dataset.name}/x"),
    }
    assert answers(calls) == dict.fromkeys(calls, "NOENT")
    for each in waiting:
        each.delete()
    assert list(dataset.dependents) == []


def test_an_origin_that_another_promotion_has_moved_is_found_again(zfs, dataset):
    dataset.snapshot(f"{dataset.name}@s")
    for name in ("one", "two"):
        zfs.get_snapshot(f"{dataset.name}@s").clone(f"{dataset.name}/{name}")
    one, two = zfs.get_dataset(f"{dataset.name}/one"), zfs.get_dataset(f"{dataset.name}/two")
    command("zfs", "promote", one.name)
    assert code_of(zfs.get_snapshot, f"{dataset.name}@s") is E.NOENT
    assert two.properties["origin"].value == f"{dataset.name}@s"
    two.properties["origin"].refresh()
    assert zfs.get_dataset(two.name).properties["origin"].value == f"{one.name}@s"
    two.promote()
    assert zfs.get_dataset(one.name).properties["origin"].value == f"{two.name}@s"
    zfs.get_dataset(dataset.name).promote()


def test_a_foreign_snapshot_on_both_sides_stops_a_promotion_and_is_named(zfs, dataset):
    dataset.snapshot(f"{dataset.name}@daily")
    dataset.snapshot(f"{dataset.name}@ours")
    zfs.get_snapshot(f"{dataset.name}@ours").clone(f"{dataset.name}/clone")
    clone = zfs.get_dataset(f"{dataset.name}/clone")
    clone.snapshot(f"{clone.name}@daily")
    with pytest.raises(libzfs.ZFSException, match="daily") as caught:
        clone.promote()
    assert caught.value.code is E.EXISTS
    assert [each.snapshot_name for each in dataset.snapshots] == ["daily", "ours"]
    zfs.get_snapshot(f"{clone.name}@daily").rename("@our daily")
    clone.promote()
    assert [each.snapshot_name for each in clone.snapshots] == ["daily", "ours", "our daily"]


def test_where_the_device_of_zfs_is_missing_that_is_said(zfs):
    program = (
        "from backends import libzfs\n"
        "from backends.libzfs import run\n"
        "try: run.run(['zfs', 'list'])\n"
        "except libzfs.ZFSUnavailableException as error: print(error)"
    )
    hidden = 'mount -t tmpfs none /dev && : > /dev/null && ZFS_MODULE_TIMEOUT=0 exec "$@"'
    argv = ["unshare", "--mount", "sh", "-c", hidden, "sh", sys.executable, "-c", program]
    root = Path(__file__).parents[2]
    done = subprocess.run(argv, cwd=root, capture_output=True, text=True)
    assert "/dev/zfs" in done.stdout, done.stderr
    assert done.stdout.count("\n") == 1
