"""Streams between real datasets and file descriptors, whole, incremental and interrupted."""

import os
import threading

import pytest

from backends import libzfs
from tests.libzfs.conftest import command

E = libzfs.Error
Flag = libzfs.SendFlag


@pytest.fixture(scope="module")
def source(zfs, pool):
    """A dataset with two snapshots of 1 MiB each."""
    zfs.get(pool).create(f"{pool}/the source", {"org.x:a": "sent"})
    source = zfs.get_dataset(f"{pool}/the source")
    source.mount()
    for name in ("one", "two"):
        with open(f"{source.mountpoint}/{name}", "wb") as file:
            file.write(os.urandom(1 << 20))
        source.snapshot(f"{source.name}@{name}")
    yield source
    command("zfs", "destroy", "-R", source.name)


def sent(send, tmp_path) -> bytes:
    with (tmp_path / "stream").open("w+b") as file:
        send(file.fileno())
        file.seek(0)
        return file.read()


def received(zfs, name, data, tmp_path, **options):
    (tmp_path / "stream").write_bytes(data)
    with (tmp_path / "stream").open("rb") as file:
        zfs.receive(name, file.fileno(), **options)


def files(dataset) -> list[str]:
    dataset.mount()
    return sorted(os.listdir(dataset.mountpoint))


def test_a_whole_stream_and_an_increment_make_the_same_tree(zfs, dataset, source, tmp_path):
    target = f"{dataset.name}/target"
    whole = sent(zfs.get_snapshot(f"{source.name}@one").send, tmp_path)
    received(zfs, target, whole, tmp_path, nomount=True, props={"atime": "off", "org.x:a": None})
    copy = zfs.get_dataset(target)
    assert copy.mountpoint is None
    assert copy.properties["atime"].value == "off"
    assert files(copy) == ["one"]
    copy.umount()
    increment = sent(lambda fd: source.send(fd, fromname="one", toname="two"), tmp_path)
    received(zfs, target, increment, tmp_path)
    assert files(zfs.get_dataset(target)) == ["one", "two"]
    guids = [
        [each.properties["guid"].value for each in side.snapshots]
        for side in (source, zfs.get_dataset(target))
    ]
    assert guids[0] == guids[1]


def test_a_stream_with_everything_carries_properties(zfs, dataset, source, tmp_path):
    flags = {Flag.REPLICATE, Flag.PROPS, Flag.LARGEBLOCK, Flag.COMPRESS, Flag.EMBED_DATA}
    data = sent(lambda fd: source.send(fd, toname="two", flags=flags), tmp_path)
    received(zfs, f"{dataset.name}/target", data, tmp_path)
    copy = zfs.get_dataset(f"{dataset.name}/target")
    assert [each.snapshot_name for each in copy.snapshots] == ["one", "two"]
    note = copy.properties["org.x:a"]
    assert (note.value, note.source) == ("sent", libzfs.PropertySource.RECEIVED)


def test_a_bookmark_is_enough_to_send_from(zfs, dataset, source, tmp_path):
    whole = sent(zfs.get_snapshot(f"{source.name}@one").send, tmp_path)
    received(zfs, f"{dataset.name}/target", whole, tmp_path)
    zfs.get_snapshot(f"{source.name}@one").bookmark("mark")
    data = sent(lambda fd: source.send(fd, fromname="#mark", toname="two"), tmp_path)
    received(zfs, f"{dataset.name}/target", data, tmp_path, force=True)
    assert files(zfs.get_dataset(f"{dataset.name}/target")) == ["one", "two"]


def test_a_clone_is_sent_from_its_origin(zfs, dataset, source, tmp_path):
    zfs.get_snapshot(f"{source.name}@two").clone(f"{dataset.name}/clone")
    clone = zfs.get_dataset(f"{dataset.name}/clone")
    clone.snapshot(f"{clone.name}@c")
    small = sent(lambda fd: clone.send(fd, toname="c", flags={Flag.FROMORIGIN}), tmp_path)
    assert len(small) < 1 << 20 < len(sent(lambda fd: clone.send(fd, toname="c"), tmp_path))


def test_an_interrupted_stream_is_resumed(zfs, dataset, source, tmp_path):
    target = f"{dataset.name}/target"
    whole = sent(zfs.get_snapshot(f"{source.name}@two").send, tmp_path)
    with pytest.raises(libzfs.ZFSException) as caught:
        received(zfs, target, whole[: len(whole) * 3 // 4], tmp_path, resumable=True)
    assert caught.value.code is E.BADSTREAM
    token = zfs.get_dataset(target).properties["receive_resume_token"].value
    said = zfs.describe_resume_token(token)
    assert said["toname"] == f"{source.name}@two"
    guid = zfs.get_snapshot(f"{source.name}@two").properties["guid"].parsed
    assert said["toguid"] == int(guid)
    assert said["bytes"] > 0
    # The command's own reading of the token agrees with ours.
    printed = command("zfs", "send", "-nvt", token)
    assert f"object = {said['object']:#x}" in printed
    assert f"offset = {said['offset']:#x}" in printed
    rest = sent(lambda fd: zfs.send_resume(fd, token), tmp_path)
    assert len(rest) < len(whole)
    received(zfs, target, rest, tmp_path, resumable=True)
    assert files(zfs.get_dataset(target)) == ["one", "two"]


def test_a_pipe_joins_send_and_receive(zfs, dataset, source):
    reader, writer = os.pipe()

    def send() -> None:
        with os.fdopen(writer, "wb"):
            zfs.get_snapshot(f"{source.name}@two").send(writer)

    sender = threading.Thread(target=send)
    sender.start()
    with os.fdopen(reader, "rb"):
        zfs.receive(f"{dataset.name}/target", reader)
    sender.join()
    assert files(zfs.get_dataset(f"{dataset.name}/target")) == ["one", "two"]


def test_what_is_there_is_not_overwritten(zfs, dataset, source, tmp_path):
    whole = sent(zfs.get_snapshot(f"{source.name}@one").send, tmp_path)
    dataset.pool.create(f"{dataset.name}/target", {})
    with pytest.raises(libzfs.ZFSException) as caught:
        received(zfs, f"{dataset.name}/target", whole, tmp_path)
    assert caught.value.code is E.EXISTS
    with pytest.raises(libzfs.ZFSException) as caught:
        received(zfs, f"{dataset.name}/other", b"no stream at all" * 100, tmp_path)
    assert caught.value.code is E.BADSTREAM
    with pytest.raises(NotImplementedError, match="limitds"):
        zfs.receive(f"{dataset.name}/other", 0, limitds={"x": 1})


def test_a_changed_target_refuses_an_increment_unless_forced(zfs, dataset, source, tmp_path):
    target = f"{dataset.name}/target"
    whole = sent(zfs.get_snapshot(f"{source.name}@one").send, tmp_path)
    received(zfs, target, whole, tmp_path)
    copy = zfs.get_dataset(target)
    with open(f"{copy.mountpoint}/other", "w") as file:
        file.write("x")
    increment = sent(lambda fd: source.send(fd, fromname="@one", toname="two"), tmp_path)
    with pytest.raises(libzfs.ZFSException) as caught:
        received(zfs, target, increment, tmp_path)
    assert caught.value.code is E.BADRESTORE
    received(zfs, target, increment, tmp_path, force=True)
    assert files(zfs.get_dataset(target)) == ["one", "two"]


def test_sizes_are_estimated_without_sending(zfs, source, tmp_path, capsys):
    two = zfs.get_snapshot(f"{source.name}@two")
    assert 2 << 20 < two.get_send_space() < 3 << 20
    assert 1 << 20 < two.get_send_space(f"{source.name}@one") < 2 << 20
    flags = {Flag.DRYRUN, Flag.PARSABLE}
    assert sent(lambda fd: two.send(fd, flags=flags), tmp_path) == b""
    assert "size\t" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_an_error(zfs, source):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb"), pytest.raises(libzfs.ZFSException) as caught:
        zfs.get_snapshot(f"{source.name}@two").send(writer)
    assert caught.value.code in (E.BADBACKUP, E.UNKNOWN)


def test_send_arguments_are_checked_as_in_py_libzfs(zfs, source):
    with pytest.raises(ValueError, match="toname"):
        source.send(1)
    with pytest.raises(libzfs.ZFSException) as caught:
        zfs.get_snapshot(f"{source.name}@one").send(os.open(os.devnull, os.O_WRONLY), "none")
    assert caught.value.code is E.NOENT
    with pytest.raises(NotImplementedError):
        zfs.get_snapshot(f"{source.name}@one").get_send_progress(1)
