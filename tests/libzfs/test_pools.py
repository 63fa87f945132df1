"""Real pools of files: made, looked at, changed, exported, found and imported."""

import errno
import json
import os
import threading
import time

import pytest

from backends import libzfs
from backends.libzfs import status
from tests.libzfs.conftest import command, vdev

E = libzfs.Error


@pytest.fixture
def mirror(zfs, disks, names, tmp_path):
    """A pool of one mirror; its paths."""
    paths = disks(2)
    options = {"mountpoint": str(tmp_path / "mnt")}
    return zfs.create(names(), {"data": [vdev(zfs, "mirror", *paths)]}, {"ashift": 12}, options)


def test_a_pool_of_every_kind_of_vdev(zfs, disks, names):
    paths = disks(13)
    topology = {
        "data": [vdev(zfs, "raidz1", *paths[0:3]), vdev(zfs, "raidz2", *paths[3:7])],
        "special": [vdev(zfs, "mirror", *paths[7:9])],
        "dedup": [vdev(zfs, "mirror", *paths[9:11])],
        "log": [vdev(zfs, "file", paths[11])],
        "cache": [vdev(zfs, "file", paths[12])],
        "spare": [vdev(zfs, "file", disks(1)[0])],
    }
    pool = zfs.create(names(), topology, {"ashift": "12"}, {"mountpoint": "none"})
    kinds = {group: [each.type for each in found] for group, found in pool.groups.items()}
    assert kinds == {
        "data": ["raidz1", "raidz2"], "special": ["mirror"], "dedup": ["mirror"],
        "log": ["file"], "cache": ["file"], "spare": ["file"],
    }  # fmt: skip
    first, second = pool.data_vdevs
    assert [child.path for child in first.children] == paths[0:3]
    assert (first.name, second.name) == ("raidz1-0", "raidz2-1")
    assert next(first.children).parent is first
    assert pool.vdev_by_guid(first.guid).name == "raidz1-0"
    log = next(pool.log_vdevs)
    assert pool.vdev_by_guid(log.guid).path == paths[11]
    assert pool.vdev_by_guid(1) is None
    assert pool.disks == []
    assert zfs.history_vdevs_list(topology)[:4] == ["raidz1", *paths[0:3]]


def test_both_readings_of_a_status_agree(mirror):
    name = mirror.name
    # Before OpenZFS 2.3 there is but one, and they agree by themselves.
    shown, text = status.read(name), status.read_text(name)

    def shape(node):
        return (node.name, node.type, node.path, node.state, node.errors,
                [shape(child) for child in node.children])  # fmt: skip

    assert shape(shown.root) == shape(text.root)
    assert [child.guid for child in shown.root.children] == [
        child.guid for child in text.root.children
    ]
    assert (shown.state, shown.error_count) == (text.state, text.error_count)


def test_a_pool_s_properties_are_what_zpool_get_says(mirror):
    properties = mirror.properties
    for options, attribute in (("-H", "value"), ("-Hp", "rawvalue")):
        output = command("zpool", "get", options, "-o", "property,value", "all", mirror.name)
        for line in output.splitlines():
            name, _, value = line.partition("\t")
            if "@" not in name:
                assert getattr(properties[name], attribute) == value, name
    assert properties["ashift"].parsed == 12
    assert properties["ashift"].source is libzfs.PropertySource.LOCAL
    comment = properties["comment"]
    comment.value = "two words"
    assert (comment.value, mirror.properties["comment"].parsed) == ("two words", "two words")
    mirror.properties["autoexpand"].parsed = True
    assert mirror.properties["autoexpand"].value == "on"
    with pytest.raises(libzfs.ZFSException) as caught:
        mirror.properties["guid"].value = "1"
    assert caught.value.code in (E.PROPREADONLY, E.BADPROP)


def test_features_are_enabled_one_by_one_and_by_an_upgrade(zfs, disks, names):
    topology = {"data": [vdev(zfs, "file", disks(1)[0])]}
    pool = zfs.create(names(), topology, {}, {"mountpoint": "none"}, enable_all_feat=False)
    features = {feature.name: feature for feature in pool.features}
    assert features["bookmarks"].state is libzfs.FeatureState.DISABLED
    assert features["bookmarks"].guid == "com.delphix:bookmarks"
    assert "bookmark" in features["bookmarks"].description
    # A pool made without features does not ask for them; so nothing is wrong with it yet.
    features["bookmarks"].enable()
    states = {feature.name: feature.state for feature in pool.features}
    assert states["bookmarks"] is not libzfs.FeatureState.DISABLED
    pool.upgrade()
    assert libzfs.FeatureState.DISABLED not in {feature.state for feature in pool.features}


def test_a_pool_with_a_disk_offline_says_so(mirror):
    assert (mirror.status, mirror.status_code, mirror.healthy) == (
        "ONLINE", libzfs.PoolStatus.OK, True,
    )  # fmt: skip
    first = next(next(mirror.data_vdevs).children)
    first.offline(temporary=True)
    assert (mirror.status, mirror.status_code) == ("DEGRADED", libzfs.PoolStatus.OFFLINE_DEV)
    assert not mirror.healthy
    assert "offline" in mirror.status_detail
    again = next(next(mirror.data_vdevs).children)
    assert (again.status, again.guid) == ("OFFLINE", first.guid)
    again.online()
    mirror.wait("RESILVER")
    assert mirror.status == "ONLINE"
    last = [*next(mirror.data_vdevs).children][1]
    with pytest.raises(libzfs.ZFSException) as caught:
        first.offline()
        last.offline()
    assert caught.value.code is E.NOREPLICAS


def test_a_mirror_is_widened_narrowed_and_repaired(zfs, mirror, disks):
    new = vdev(zfs, "file", disks(1)[0])
    next(mirror.data_vdevs).attach(new)
    mirror.wait("RESILVER")
    assert len(list(next(mirror.data_vdevs).children)) == 3
    third = [*next(mirror.data_vdevs).children][2]
    third.fault(libzfs.VDevAuxState.EXTERNAL)
    assert mirror.status == "DEGRADED"
    assert mirror.clear()
    third.detach()
    assert len(list(next(mirror.data_vdevs).children)) == 2
    with pytest.raises(libzfs.ZFSException) as caught:
        next(mirror.data_vdevs).detach()
    assert caught.value.code is E.NOTSUP
    with pytest.raises(NotImplementedError, match="degrade"):
        third.degrade(libzfs.VDevAuxState.EXTERNAL)


def test_a_vdev_is_added_and_removed(zfs, mirror, disks):
    path = disks(1)[0]
    mirror.attach_vdevs(
        {"data": [vdev(zfs, "mirror", *disks(2))], "log": [vdev(zfs, "file", path)]}
    )
    assert [len(mirror.groups[group]) for group in ("data", "log")] == [2, 1]
    next(mirror.log_vdevs).remove()
    assert list(mirror.log_vdevs) == []


def test_counters_of_a_vdev(mirror):
    top = next(mirror.data_vdevs)
    stats = top.stats
    assert (stats.read_errors, stats.write_errors, stats.checksum_errors) == (0, 0, 0)
    assert stats.asdict()["timestamp"] is None
    with pytest.raises(NotImplementedError, match="timestamp"):
        _ = stats.timestamp
    with pytest.raises(libzfs.ZFSVdevStatsException):
        _ = libzfs.ZFSVdev(mirror.root, "mirror").stats
    if status.run.version() < (2, 2):
        with pytest.raises(NotImplementedError, match=r"2\.2"):
            _ = stats.ops
        return
    assert stats.size > 64 << 20
    assert stats.ops[libzfs.ZIOType.WRITE] > 0
    assert stats.bytes[libzfs.ZIOType.WRITE] > 0
    assert stats.configured_ashift == 12
    assert 0 <= stats.fragmentation <= 100
    assert next(top.children).size > 64 << 20


def test_a_scrub_is_started_stopped_and_told_of(mirror):
    assert mirror.scrub.state is None or mirror.scrub.function is libzfs.ScanFunction.NONE
    mirror.start_scrub()
    mirror.wait("SCRUB")
    scrub = mirror.scrub
    assert (scrub.function, scrub.state, scrub.errors) == (
        libzfs.ScanFunction.SCRUB, libzfs.ScanState.FINISHED, 0,
    )  # fmt: skip
    assert abs(scrub.end_time.timestamp() - time.timezone - time.time()) < 90000
    assert scrub.asdict()["function"] == "SCRUB"
    with pytest.raises(libzfs.ZFSException) as caught:
        mirror.stop_scrub()
    assert caught.value.code is E.SCRUB
    with pytest.raises(libzfs.ZFSException) as caught:
        mirror.wait("NOTHING")
    assert caught.value.code == errno.EINVAL
    assert mirror.expand.state is None
    mirror.sync()
    with pytest.raises(NotImplementedError, match="force"):
        mirror.sync(force=True)


def test_a_pool_is_exported_found_and_imported_under_another_name(zfs, mirror, names, tmp_path):
    guid, old, new = mirror.guid, mirror.name, names()
    path = next(next(mirror.data_vdevs).children).path
    mirror.root_dataset.mount()
    label = libzfs.read_label(path)
    assert (label["name"], label["pool_guid"]) == (old, guid)
    zfs.export_pool(mirror)
    with pytest.raises(libzfs.ZFSException) as caught:
        zfs.get(old)
    assert caught.value.code is E.NOENT
    search = [os.path.dirname(path)]
    (found,) = zfs.find_import(search_paths=search, name=old)
    assert (found.guid, found.state, found.status) == (guid, libzfs.PoolState.EXPORTED, "ONLINE")
    assert [each.type for each in found.groups["data"]] == ["mirror"]
    assert found.properties is None
    with pytest.raises(NotImplementedError):
        found.create("x")
    pool = zfs.import_pool(found, new, {"altroot": str(tmp_path)})
    assert (pool.name, pool.guid) == (new, guid)
    assert pool.properties["altroot"].value == str(tmp_path)
    assert pool.root_dataset.mountpoint.startswith(str(tmp_path))
    assert [each for each in zfs.find_import(search_paths=search) if each.guid == guid] == []


def test_a_destroyed_pool_is_found_and_brought_back(zfs, mirror):
    name, guid = mirror.name, mirror.guid
    path = next(next(mirror.data_vdevs).children).path
    search = [os.path.dirname(path)]
    zfs.destroy(name)
    assert [each for each in zfs.find_import(search_paths=search) if each.guid == guid] == []
    found = [each for each in zfs.find_import(search_paths=search, destroyed=True)
             if each.guid == guid]  # fmt: skip
    assert [each.state for each in found] == [libzfs.PoolState.DESTROYED]
    assert zfs.import_pool(found[0], name, {}).guid == guid
    zfs.get(name).root_dataset.umount()
    zfs.get(name).delete()
    libzfs.clear_label(path)
    with pytest.raises(OSError, match="Cannot read label"):
        libzfs.read_label(path)


def test_a_pool_in_use_is_not_deleted(zfs, mirror):
    root = mirror.root_dataset
    root.mount()
    with pytest.raises(libzfs.ZFSException) as caught:
        mirror.delete()
    assert caught.value.code is E.BUSY
    with open(f"{root.mountpoint}/open", "w"), pytest.raises(libzfs.ZFSException) as caught:
        zfs.export_pool(mirror)
    assert caught.value.code in (E.BUSY, E.UMOUNTFAILED)
    assert zfs.get(mirror.name).guid == mirror.guid


def test_a_pool_that_cannot_be_made(zfs, mirror, disks):
    taken = next(next(mirror.data_vdevs).children).path
    for name, path, code in (
        (mirror.name, disks(1)[0], E.EXISTS), ("cow other", taken, E.BADDEV),
        ("cow other", "/nowhere/disk", E.BADDEV), ("cow other", "relative", E.BADPATH),
        ("mirror", disks(1)[0], E.INVALIDNAME), ("-f", disks(1)[0], E.INVALIDNAME),
    ):  # fmt: skip
        with pytest.raises(libzfs.ZFSException) as caught:
            zfs.create(name, {"data": [vdev(zfs, "file", path)]}, {}, {})
        assert caught.value.code is code, (name, path, str(caught.value))
    with pytest.raises(ValueError, match="Invalid vdev type"):
        libzfs.ZFSVdev(zfs, "magnetic tape")


def test_pools_are_listed_by_one_command(zfs, mirror, pool, commands):
    found = zfs.pools
    assert commands == []
    names = {each.name: each.guid for each in found}
    assert len(commands) == 1
    assert names[mirror.name] == mirror.guid
    assert pool in names


def test_a_pool_in_plain_types(zfs, mirror):
    found = mirror.asdict()
    json.dumps(found, default=str)
    assert found["groups"]["data"][0]["children"][0]["status"] == "ONLINE"
    assert found["root_dataset"]["name"] == mirror.name
    assert found["status_code"] == "OK"
    assert mirror.config["vdev_tree"]["children"][0]["type"] == "mirror"


def test_events_are_told(zfs, mirror):
    events = list(zfs.zpool_events(blocking=False))
    assert mirror.name in {event.get("pool") for event in events}
    assert all("class" in event and event["dropped"] == 0 for event in events)
    following = zfs.zpool_events(skip_existing_events=True)
    later = threading.Timer(2, mirror.start_scrub)
    later.start()
    event = next(event for event in following if event.get("pool") == mirror.name)
    assert event["class"].startswith("sysevent")
    following.close()
    later.join()


def test_what_a_command_cannot_give_is_named(zfs, mirror):
    with pytest.raises(NotImplementedError, match="write_history"):
        zfs.write_history("zfs", "x")
    for arguments in ({}, {"days": 0}, {"percentage": 101}, {"days": 1, "percentage": 1}):
        with pytest.raises(libzfs.ZFSException) as caught:
            mirror.ddt_prune(**arguments)
        assert caught.value.code == errno.EINVAL
    if status.run.version() >= (2, 3):
        mirror.ddt_prefetch()
        mirror.ddt_prune(days=1)


def test_one_thread_at_a_time_is_let_into_the_context(zfs):
    with libzfs.ZFS() as inside:
        assert isinstance(inside, libzfs.ZFS)
        assert libzfs.GLOBAL_CONTEXT_LOCK.locked()
    with pytest.raises(KeyError), libzfs.ZFS():
        raise KeyError
    assert not libzfs.GLOBAL_CONTEXT_LOCK.locked()
    with pytest.raises(libzfs.ZFSException, match="boolean"):
        libzfs.ZFS(history="yes")
