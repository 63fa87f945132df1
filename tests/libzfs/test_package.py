"""The package as a whole: its names, its numbers, and its place in sys.modules."""

import errno
import re
import subprocess
import sys
from pathlib import Path

import pytest

from backends import libzfs

SURFACE = {
    "ZFS": """asdict errno errstr pools datasets snapshots get get_dataset get_snapshot get_object
        get_dataset_by_path create destroy receive send_resume describe_resume_token find_import
        import_pool export_pool write_history generate_history_opts datasets_serialized
        snapshots_serialized zpool_events run proptypes""",
    "ZFSPool": """name guid hostname state status status_code healthy warning status_detail
        error_count config properties features disks scrub expand groups root_dataset root_vdev
        data_vdevs log_vdevs cache_vdevs spare_vdevs special_vdevs dedup_vdevs create attach_vdevs
        vdev_by_guid delete start_scrub stop_scrub clear upgrade wait sync ddt_prefetch ddt_prune
        asdict""",
    "ZFSVdev": """add_child_vdev set_ashift set_whole_disk attach replace detach
        remove offline online degrade fault type guid name path status size stats
        children disks asdict""",
    "ZFSVdevStats": """timestamp size allocated read_errors write_errors checksum_errors ops bytes
        configured_ashift logical_ashift physical_ashift fragmentation self_healed nvlist asdict""",
    "ZFSProperty": """name value rawvalue source source_info parsed allowed_values refresh inherit
        asdict""",
    "ZFSPropertyDict": "refresh has_key iterkeys itervalues",
    "ZFSDataset": """name type properties pool rename delete get_send_space asdict get_dependents
        update_properties userspace children children_recursive snapshots snapshots_recursive
        bookmarks dependents mountpoint mount umount mount_recursive umount_recursive send promote
        snapshot receive diff destroy_snapshot delete_snapshots encrypted key_location
        encryption_root key_loaded load_key check_key unload_key change_key""",
    "ZFSSnapshot": """snapshot_name parent holds mountpoint dependents rollback bookmark clone hold
        release delete send get_send_progress""",
    "ZFSBookmark": "parent bookmark_name asdict",
    "ZPoolScrub": """state function start_time end_time bytes_to_scan bytes_scanned total_secs_left
        bytes_issued bytes_issued_per_pass bytes_skipped pause errors percentage asdict""",
    "ZPoolRaidzExpand": """state expanding_vdev start_time end_time bytes_to_reflow bytes_reflowed
        waiting_for_resilver total_secs_left percentage asdict""",
    "ZPoolFeature": "name guid description state enable asdict",
    "ZPoolProperty": "name value rawvalue source parsed allowed_values reset asdict",
}


@pytest.mark.parametrize("name", SURFACE)
def test_everything_that_py_libzfs_has_is_there(name):
    missing = [each for each in SURFACE[name].split() if not hasattr(getattr(libzfs, name), each)]
    assert not missing


def test_the_table_of_what_cannot_be_had_is_whole():
    directory = Path(libzfs.__file__).parent
    source = "".join(path.read_text() for path in directory.glob("*.py"))
    refused = re.findall(r'(?:not_available\(|needs\(\(\d, \d\), )\s*"(\w+)', source)
    assert len(refused) > 10
    assert [name for name in refused if name != "the" and name not in libzfs.__doc__] == []


def test_the_numbers_are_zfs_s_own():
    assert (libzfs.Error.NOMEM, libzfs.Error.UNKNOWN) == (2000, 2100)
    assert (libzfs.Error.NOENT, libzfs.Error.BUSY) == (2009, 2007)
    assert (libzfs.DatasetType.SNAPSHOT, libzfs.DatasetType.VOLUME) == (2, 4)
    assert libzfs.PropertySource.RECEIVED == 0x20
    assert (libzfs.PoolStatus.OK, libzfs.VDevState.HEALTHY) == (32, 7)
    assert libzfs.SendFlag.VERBOSE is libzfs.SendFlag.VERBOSITY


@pytest.mark.parametrize("name", ["ZFSProperty", "ZFSObject", "ZFSDataset", "ZFSPool"])
def test_what_only_a_pool_can_give_is_not_made_by_hand(name):
    with pytest.raises(RuntimeError, match="cannot be instantiated"):
        getattr(libzfs, name)()


def test_an_unmodified_program_imports_it_after_install():
    program = (
        "from backends import libzfs as ours; ours.install(); ours.install(); import libzfs;"
        " assert libzfs.ZFSException is ours.ZFSException"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_real_py_libzfs_is_not_pushed_aside():
    program = (
        "import sys, types; sys.modules['libzfs'] = types.ModuleType('libzfs')\n"
        "from backends import libzfs\n"
        "try: libzfs.install()\n"
        "except RuntimeError: sys.exit(7)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 7


@pytest.mark.parametrize(
    ("given", "data"),
    [((11, 2, 1, None), 8), ((11, 2, 1, 4), 4), ((4, 1, 0, None), 3)],
)
def test_a_draid_of_these_disks_has_so_many_data_disks(given, data):
    assert libzfs.validate_draid_configuration(*given) == data


@pytest.mark.parametrize(
    "given", [(3, 1, 2, None), (8, 2, 0, 7), (8, 0, 0, 2), (8, 4, 0, 2), (300, 1, 0, 8)]
)
def test_a_draid_that_cannot_be_is_refused(given):
    with pytest.raises(libzfs.ZFSException) as caught:
        libzfs.validate_draid_configuration(*given)
    assert caught.value.code == errno.EINVAL


def test_the_configuration_of_a_draid_is_written_under_zfs_s_keys():
    config: dict[str, int] = {}
    libzfs.update_draid_config(config, 11, draid_parity=2, draid_spare_disks=1, draid_data_disks=4)
    assert config == {
        "nparity": 2, "draid_ndata": 4, "draid_nspares": 1, "draid_ngroups": 5,
    }  # fmt: skip
