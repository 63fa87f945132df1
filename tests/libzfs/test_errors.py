"""What the commands say becomes a typed error, by what was being done."""

import errno
import pickle

import pytest

from backends import libzfs
from backends.libzfs.errors import from_stderr, only_absent

E = libzfs.Error

# What OpenZFS 2.1 to 2.3 prints; the last word of the command stands for all names.
SAID = [
    ("zfs create", "cannot create 'p/a': dataset already exists", E.EXISTS),
    ("zfs create", "cannot create 'p/a/b': parent does not exist", E.NOENT),
    ("zfs create", "cannot create 'p/a': no such pool 'p'", E.NOENT),
    ("zfs create", "cannot create 'p/a': out of space", E.NOSPC),
    ("zfs create", "cannot create 'p/a': permission denied", E.PERM),
    ("zfs create", "cannot create 'p/a': 'atime' must be one of 'on | off'", E.BADPROP),
    ("zfs create", "cannot create 'p/v/a': parent is not a filesystem", E.WRONG_PARENT),
    ("zfs create", "cannot create 'p/a': pool I/O is currently suspended", E.POOLUNAVAIL),
    ("zfs create", "cannot create 'p/a': Keyformat required for new encryption root.",
     E.CRYPTO_FAILED),
    ("zfs create", "cannot create 'p/a': Passphrase too short (min 8).", E.CRYPTO_FAILED),
    ("zfs destroy", "cannot open 'p/a': dataset does not exist", E.NOENT),
    ("zfs destroy", "could not find any snapshots to destroy; check snapshot names.", E.NOENT),
    ("zfs destroy", "cannot destroy 'p/a': dataset is busy", E.BUSY),
    ("zfs destroy", "cannot destroy 'p/a': filesystem has children\nuse '-r' to destroy the"
     " following datasets:\np/a@s\n", E.BUSY),
    ("zfs destroy", "cannot destroy 'p/a': filesystem has children\nuse '-r' to destroy the"
     " following datasets:\np/a/b\np/a@s\n", E.EXISTS),
    ("zfs destroy", "cannot destroy 'p/a@s': snapshot has dependent clones\nuse '-R' to destroy"
     " the following datasets:\np/c\n", E.EXISTS),
    ("zfs destroy", "cannot destroy snapshot p/a@s: dataset is busy", E.BUSY),
    ("zfs destroy", "cannot destroy snapshot p/a@s: snapshot is cloned", E.EXISTS),
    ("zfs destroy", "cannot destroy snapshot p/a@s: it's being held. Run 'zfs holds -r p/a@s' to"
     " see holders.", E.BUSY),
    ("zfs destroy", "cannot unmount '/p/a': pool or dataset is busy", E.BUSY),
    ("zfs destroy", "cannot destroy 'p': operation does not apply to pools\n", E.BADTYPE),
    ("zfs hold", "cannot hold snapshot 'p/a@s': tag already exists on this dataset", E.HOLD),
    ("zfs hold", "cannot hold snapshot 'p/a@s': dataset does not exist", E.NOENT),
    ("zfs hold", "cannot hold snapshot 'p/a@s': tag too long", E.TAGTOOLONG),
    ("zfs release", "cannot release hold from snapshot 'p/a@s': no such tag on this dataset",
     E.RELE),
    ("zfs promote", "cannot promote 'p/a': not a cloned filesystem", E.BADTYPE),
    ("zfs promote", "cannot promote 'p/c': conflicting snapshot 's' from parent 'p/a@t'", E.EXISTS),
    ("zfs rename", "cannot rename 'p/a': New dataset name cannot be a descendant of current"
     " dataset name", E.INVALIDNAME),
    ("zfs rename", "cannot rename to 'q/a': datasets must be within same pool", E.CROSSTARGET),
    ("zfs set", "cannot set property for 'p/a': 'used' is readonly", E.PROPREADONLY),
    ("zfs set", "cannot set property for 'p/a': size is less than current used or reserved space",
     E.PROPSPACE),
    ("zfs set", "cannot set property for 'p/a': invalid property 'x'", E.BADPROP),
    ("zfs set", "cannot set property for 'p/v': 'quota' does not apply to datasets of this type",
     E.PROPTYPE),
    ("zfs mount", "cannot mount 'p/a': encryption key not loaded", E.MOUNTFAILED),
    ("zfs mount", "cannot mount '/p/a': directory is not empty", E.MOUNTFAILED),
    ("zfs unmount", "cannot unmount '/p/a': pool or dataset is busy", E.UMOUNTFAILED),
    ("zfs receive", "cannot receive new filesystem stream: destination 'p/a' exists\nmust specify"
     " -F to overwrite it", E.EXISTS),
    ("zfs receive", "cannot receive incremental stream: destination p/a has been modified\nsince"
     " most recent snapshot", E.BADRESTORE),
    ("zfs receive", "cannot receive incremental stream: most recent snapshot of p/a does not\n"
     "match incremental source", E.BADRESTORE),
    ("zfs receive", "cannot receive resume stream: checksum mismatch or incomplete stream.\n"
     "Partially received snapshot is saved.\nA resuming stream can be generated", E.BADSTREAM),
    ("zfs receive", "cannot receive: failed to read from stream", E.BADSTREAM),
    ("zfs receive", "cannot receive: invalid stream (bad magic number)", E.BADSTREAM),
    ("zfs receive", "cannot receive incremental stream: destination 'p/a' does not exist",
     E.NOENT),
    ("zfs send", "cannot open 'p/a@x': dataset does not exist", E.NOENT),
    ("zfs send", "warning: cannot send 'p/a@x': not an earlier snapshot from the same fs",
     E.CROSSTARGET),
    ("zfs send", "warning: cannot send 'p/a@x': Broken pipe", E.BADBACKUP),
    ("zfs send", "cannot resume send: resume token is corrupt (incorrect checksum)", E.FAULT),
    ("zfs load-key", "Key load error: Incorrect key provided for 'p/e'.", E.CRYPTO_FAILED),
    ("zfs unload-key", "Key unload error: 'p/e' is busy.", E.CRYPTO_FAILED),
    ("zfs diff", "Cannot diff an unmounted snapshot", E.DIFF),
    ("zfs bookmark", "cannot create bookmark 'p/a#b': bookmark exists", E.EXISTS),
    ("zfs snapshot", "cannot create snapshot 'p/a@s': dataset already exists", E.EXISTS),
    ("zfs snapshot", "cannot create snapshots : permission denied", E.PERM),
    ("zfs program", "Channel program execution failed:\nPermission denied. Channel programs must"
     " be run as root.", E.PERM),
    ("zfs program", "Channel program execution failed:\n[string \"channel program\"]:1: oops",
     E.UNKNOWN),
    ("zpool create", "invalid vdev specification\nuse '-f' to override the following errors:\n"
     "mismatched replication level: both mirror and raidz vdevs are present", E.INVALCONFIG),
    ("zpool create", "cannot create 'p': pool already exists", E.EXISTS),
    ("zpool create", "cannot create 'p': one or more devices is less than the minimum size (64M)",
     E.BADDEV),
    ("zpool destroy", "cannot open 'p': no such pool", E.NOENT),
    ("zpool export", "cannot export 'p': pool is busy", E.BUSY),
    ("zpool import", "cannot import 'p': a pool with that name already exists\nuse the form"
     " 'zpool import <pool | id> <newpool>' to give it a new name", E.EXISTS),
    ("zpool import", "cannot import '123': no such pool available", E.NOENT),
    ("zpool scrub", "cannot scrub p: currently scrubbing; use 'zpool scrub -s' to cancel scrub",
     E.SCRUBBING),
    ("zpool scrub", "cannot cancel scrubbing p: there is no active scrub", E.SCRUB),
    ("zpool detach", "cannot detach /d0: only applicable to mirror and replacing vdevs",
     E.BADTARGET),
    ("zpool offline", "cannot offline /d0: no valid replicas", E.NOREPLICAS),
    ("zpool online", "cannot online /d9: no such device in pool", E.NODEVICE),
    ("zfs create", "a sentence that nobody has read before", E.UNKNOWN),
]  # fmt: skip


@pytest.mark.parametrize(("command", "stderr", "code"), SAID)
def test_what_a_command_says_becomes_its_own_error(command, stderr, code):
    error = from_stderr(command.split(), stderr, 1)
    assert error.code is code
    assert "\n" not in str(error)


@pytest.mark.parametrize("name", ["p/already exists", "p/busy", "p/x: out of space", "busy",
                                  "p/has children"])  # fmt: skip
def test_a_name_made_of_an_error_s_words_does_not_mislead(name):
    for said in (f"cannot create '{name}': permission denied", f"cannot hold {name}: I/O error"):
        expected = E.PERM if "permission" in said else E.IO
        assert from_stderr(["zfs", "create", name], said, 1).code is expected


def test_a_module_that_is_not_loaded_is_told_apart():
    for said in (
        "The ZFS modules are not loaded.\nTry running '/sbin/modprobe zfs' as root to load them.",
        "The ZFS modules cannot be auto-loaded.\nTry running 'modprobe zfs' as root to manually"
        " load them.",
        "/dev/zfs and /proc/self/mounts are required.\nTry running 'udevadm trigger'",
    ):
        error = from_stderr(["zfs", "list"], said, 1)
        assert isinstance(error, libzfs.ZFSUnavailableException)
        assert "; Try running" in str(error)
    named = "p/The ZFS modules are not loaded"
    error = from_stderr(["zfs", "list", named], f"cannot open '{named}': I/O error", 1)
    assert (type(error), error.code) == (libzfs.ZFSException, E.IO)


def test_the_page_on_how_a_command_is_used_is_no_part_of_what_went_wrong():
    said = "cannot open 'p/a': dataset does not exist\nusage:\n\tsnapshot [-r] <filesystem>@<snap>"
    error = from_stderr(["zfs", "snapshot", "p/a@s"], said, 2)
    assert (error.code, str(error)) == (E.NOENT, "cannot open 'p/a': dataset does not exist")
    assert from_stderr(["zfs", "x"], "invalid option 'j'\nusage:\n\tx", 2).code is E.INVALARG


def test_absent_names_alone_are_no_failure_of_a_listing():
    absent = "cannot open 'p/a': dataset does not exist\n"
    assert only_absent(["zfs", "get"], absent + absent)
    assert not only_absent(["zfs", "get"], absent + "cannot open 'p/b': I/O error\n")
    assert not only_absent(["zfs", "get"], "")


def test_what_py_libzfs_does_past_libzfs_is_an_oserror_too():
    error = libzfs.ZFSCoreException(E.EXISTS, "cannot create bookmark")
    assert isinstance(error, OSError)
    assert (error.errno, error.code, str(error)) == (errno.EEXIST, E.EXISTS, error.args[0])


def test_a_command_that_is_not_installed_is_told_apart(monkeypatch, tmp_path):
    from backends.libzfs import run

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(run, "SYSTEM_PATH", str(tmp_path))
    with pytest.raises(libzfs.ZFSUnavailableException, match="not installed"):
        run.run(["zfs", "list"])


@pytest.mark.parametrize(
    "error",
    [
        libzfs.ZFSException(E.BUSY, "cannot destroy 'p/a': dataset is busy"),
        libzfs.ZFSUnavailableException(E.OPENFAILED, "no"),
        libzfs.ZFSVdevStatsException(E.NOENT),
        libzfs.ZFSCoreException(E.EXISTS, "cannot create bookmark"),
        libzfs.ZFSPoolScanStatsException(E.NOENT),
        libzfs.ZFSPoolRaidzExpandStatsException(E.NOENT, "none"),
    ],
)
def test_an_error_survives_pickling(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (again.code, again.args) == (error.code, error.args)


def test_a_zero_byte_is_refused_and_not_cut_off():
    from backends.libzfs import run

    with pytest.raises(libzfs.ZFSException, match="zero byte"):
        run.run(["zfs", "set", "a:b=c\0d", "p/a"])
