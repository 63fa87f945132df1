"""What the commands print, read without a pool; the hostile kind too."""

import datetime
import json
import os

import pytest

from backends import libzfs
from backends.libzfs import events, importable, listing, nvlist, poolproperties, reasons, status

Source = libzfs.PropertySource


def rows(*lines):
    return "".join(f"{line}\n" for line in lines)


def test_a_listing_keeps_every_byte_of_a_value():
    output = rows("p/a b\ttype\t-\tfilesystem", "p/a b\tx:y\tlocal\tone", "two\tthree", "",
                  "p/c\ttype\t-\tvolume")  # fmt: skip
    found = listing.parse(output)
    assert found["p/a b"]["x:y"].raw == "one\ntwo\tthree\n"
    assert list(found) == ["p/a b", "p/c"]


def test_where_a_value_comes_from_is_told():
    output = rows("p/a/b\ttype\t-\tfilesystem", "p/a/b\tatime\tinherited from p/a\toff",
                  "p/a/b\tx:y\treceived\t1")  # fmt: skip
    found = listing.parse(output)["p/a/b"]
    assert found["atime"] == ("off", Source.INHERITED, "p/a")
    assert found["x:y"].source is Source.RECEIVED


def test_a_source_that_the_command_cut_off_is_completed():
    long = "p/" + "a" * 200
    cut = f"inherited from {long}"[:127]
    output = rows(f"{long}/b\ttype\t-\tfilesystem", f"{long}/b\tatime\t{cut}\toff")
    assert listing.parse(output)[f"{long}/b"]["atime"].source_info == long


@pytest.mark.parametrize(
    "forged",
    ["p/b\tx:owner\tlocal\troot", "p/b\ttype\t-\tfilesystem", "p/a\tused\t-\t0"],
    ids=["a neighbour's property", "a neighbour", "one of its own"],
)
def test_a_value_that_looks_like_rows_is_found_out(forged):
    output = rows("p/a\ttype\t-\tfilesystem", "p/a\tused\t-\t1", f"p/a\tx:y\tlocal\tbait\n{forged}",
                  "p/b\ttype\t-\tfilesystem", "p/b\tx:owner\tlocal\tdaemon")  # fmt: skip
    with pytest.raises(listing.MisreadableError):
        listing.parse(output)


def test_a_listing_in_json_is_the_same_listing():
    atime = {"value": "off", "source": {"type": "INHERITED", "data": "p"}}
    kind = {"value": "filesystem", "source": {"type": "NONE", "data": "-"}}
    entry = {"name": "p/a", "properties": {"atime": atime, "type": kind}}
    text = json.dumps({"datasets": {"p/a": entry}})
    assert listing.parse_json(text)["p/a"] == {
        "type": ("filesystem", Source.NONE, ""),
        "atime": ("off", Source.INHERITED, "p"),
    }


# zfs diff


def record(*fields):
    return libzfs.DiffRecord("\t".join(fields) + "\n")


def test_a_record_has_its_time_kind_and_path():
    found = record("1700000000.123456789", "M", "F", "/m/a\\0040b\\0134\\0303\\0251")
    assert found.cmd is libzfs.DiffRecordType.MODIFY
    assert found.type is libzfs.DiffFileType.FILE
    assert found.path == "/m/a b\\é"
    assert found.timestamp == datetime.datetime(2023, 11, 14, 22, 13, 20, 123456)
    assert found.timestamp_ns == 1700000000123456789
    assert found.asdict()["oldpath"] is None


def test_a_rename_has_the_path_before_and_the_path_now():
    found = record("1.0", "R", "/", "/m/old\\0040->\\0040x", "/m/new")
    assert (found.oldpath, found.path) == ("/m/old -> x", "/m/new")


def test_any_byte_can_stand_in_a_path():
    name = bytes(range(1, 256)).replace(b"/", b"")
    escaped = "".join(
        chr(byte) if 0x20 < byte < 0x7F and byte != 0x5C else f"\\0{byte:03o}" for byte in name
    )
    assert os.fsencode(record("1.0", "+", "F", f"/m/{escaped}").path) == b"/m/" + name


@pytest.mark.parametrize("kind", list("BCF/@=|>P?"))
def test_every_kind_of_file_that_zfs_diff_prints_has_a_name(kind):
    assert record("1.0", "+", kind, "/m/x").type.value == kind


def test_a_gained_hard_link_is_counted():
    assert record("1.0", "M", "F", "/m/x", "(+2)").link_delta == 2


@pytest.mark.parametrize("raw", ["", "x", "1.0\tM\tF", "1.0\tZ\tF\t/m/x", "1.0\tR\tF\t/m/only"])
def test_what_is_no_record_is_refused(raw):
    with pytest.raises(libzfs.ZFSException) as caught:
        libzfs.DiffRecord(raw)
    assert caught.value.code is libzfs.Error.DIFFDATA


# Pools

TEXT = """\
  pool: tank
 state: DEGRADED
status: One or more devices has been taken offline by the administrator.
\tSufficient replicas exist for the pool to continue functioning in a
\tdegraded state.
action: Online the device using 'zpool online' or replace the device with
\t'zpool replace'.
  scan: scrub repaired 0B in 00:00:03 with 2 errors on Sat Nov 21 03:59:45 2026
config:

\tNAME           STATE     READ WRITE CKSUM
\ttank           DEGRADED     0     0     0
\t  mirror-0     DEGRADED     0     0     0
\t    /v/disk 0  ONLINE       1     2    30
\t    /v/disk 1  OFFLINE      0     0     0
\t  raidz2-1     ONLINE       0     0     0
\t    /dev/sda   ONLINE       0     0     0
\t    /dev/sdb   ONLINE       0     0     0
\tlogs\t
\t  /v/log       ONLINE       0     0     0
\tcache
\t  /v/cache     UNAVAIL      0     0     0  cannot open
\tspares
\t  /v/spare     AVAIL   

errors: 7 data errors, use '-v' for a list
"""  # noqa: W291 - so the command prints it
GUIDS = """\
  pool: tank
 state: DEGRADED
config:

\tNAME   STATE     READ WRITE CKSUM
\ttank   DEGRADED     0     0     0
\t  10     DEGRADED     0     0     0
\t    11   ONLINE       1     2    30
\t    12   OFFLINE      0     0     0
\t  20     ONLINE       0     0     0
\t    21   ONLINE       0     0     0
\t    22   ONLINE       0     0     0
\tlogs\t
\t  30     ONLINE       0     0     0
\tcache
\t  40     UNAVAIL      0     0     0  cannot open
\tspares
\t  50     AVAIL   

errors: 7 data errors, use '-v' for a list
"""  # noqa: W291


def test_the_text_of_a_status_is_read_as_older_openzfs_prints_it():
    found = status.parse_text(TEXT, GUIDS)
    assert (found.name, found.state, found.error_count) == ("tank", "DEGRADED", 7)
    mirror, raidz = found.groups["data"]
    assert (mirror.name, mirror.type, mirror.guid) == ("mirror-0", "mirror", 10)
    first, second = mirror.children
    assert (first.path, first.guid, first.errors) == ("/v/disk 0", 11, (1, 2, 30))
    assert second.state == "OFFLINE"
    assert (raidz.type, [child.guid for child in raidz.children]) == ("raidz", [21, 22])
    assert raidz.children[0].name == "sda"
    assert [found.groups[group][0].guid for group in ("log", "cache", "spare")] == [30, 40, 50]
    assert found.scan
    assert (found.scan.function.name, found.scan.state.name, found.scan.errors) == (
        "SCRUB", "FINISHED", 2,
    )  # fmt: skip
    assert reasons.status_code(found) is libzfs.PoolStatus.OFFLINE_DEV


def test_a_message_id_names_what_is_wrong_with_a_pool():
    text = TEXT.replace("action:", "   see: https://openzfs.github.io/openzfs-docs/msg/ZFS-8000-9P\n"
                        "action:")  # fmt: skip
    assert reasons.status_code(status.parse_text(text, GUIDS)) is libzfs.PoolStatus.FAILING_DEV


def test_pools_to_be_imported_are_read_one_by_one():
    output = """\
   pool: one
     id: 123
  state: ONLINE
 action: The pool can be imported using its name or numeric identifier.
 comment: mine
 config:

\tone          ONLINE
\t  /v/disk 0  ONLINE

  pool: two words
    id: 456
 state: ONLINE (DESTROYED)
action: The pool can be imported using its name or numeric identifier.
config:

\ttwo words     ONLINE
\t  mirror-0    ONLINE
\t    /v/a      ONLINE
\t    /v/b      ONLINE
\tlogs\t
\t  /v/c        ONLINE
\tcache
\t  /v/disk d
"""
    (one, state), (two, other) = [importable.parse(text) for text in importable.split(output)]
    assert (one.name, one.guid, one.groups["data"][0].path) == ("one", 123, "/v/disk 0")
    assert (two.name, two.guid) == ("two words", 456)
    assert [len(two.groups[group]) for group in ("data", "log")] == [1, 1]
    assert two.groups["cache"][0].path == "/v/disk d"
    assert state is libzfs.PoolState.EXPORTED
    assert other is libzfs.PoolState.DESTROYED


def test_descriptions_of_features_are_read():
    text = rows(
        "This system supports ZFS pool feature flags.",
        "",
        "The following features are supported:",
        "",
        "FEAT DESCRIPTION",
        "-------------------------------------------------------------",
        "async_destroy                         (read-only compatible)",
        "     Destroy filesystems asynchronously.",
        "lz4_compress                         ",
        "     LZ4 compression",
        "     algorithm support.",
    )
    assert poolproperties.parse_descriptions(text) == {
        "async_destroy": "Destroy filesystems asynchronously.",
        "lz4_compress": "LZ4 compression algorithm support.",
    }


def test_events_become_dicts():
    lines = ["dropped 3 events", 'Nov 21 2026 03:59:44.195734595\tsysevent.fs.zfs.pool_create',
             "        version = 0x0", '        class = "sysevent.fs.zfs.pool_create"',
             "        time = 0x6b011730 0xbaaac43 ", ""]  # fmt: skip
    (event,) = events.parse(lines)
    assert event == {
        "dropped": 3,
        "version": 0,
        "class": "sysevent.fs.zfs.pool_create",
        "time": [0x6B011730, 0xBAAAC43],
    }


@pytest.mark.parametrize("token", ["", "x", "1-0-0-", "2-0-0-00", "1-zz-10-00", "1-0-10-00"])
def test_a_damaged_resume_token_is_refused(token):
    with pytest.raises(libzfs.ZFSException) as caught:
        libzfs.ZFS.describe_resume_token(None, token)
    assert caught.value.code is libzfs.Error.FAULT


@pytest.mark.parametrize("data", [b"", b"\1", b"\1\1\0\0" + b"\xff" * 100, b"\1\1\0\0" + b"\0" * 9])
def test_a_damaged_name_value_list_is_refused(data):
    with pytest.raises(ValueError, match="name-value list"):
        nvlist.unpack(data)


def test_a_file_without_a_label_is_no_part_of_a_pool(tmp_path):
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    with pytest.raises(OSError, match="Cannot read label"):
        libzfs.read_label(str(tmp_path / "disk"))
