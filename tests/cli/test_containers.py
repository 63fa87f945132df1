"""ps, rm, rename, mount and umount."""

import os
import re
from pathlib import Path

import pytest

from tests.cli.conftest import ON_ZFS, Cowshed

AGE = r"(?:\d+ seconds?|Less than a second|About a minute|\d+ minutes) ago *"
NAMES = ("--format", "{{.Names}}")


@pytest.fixture
def herd(cowshed: Cowshed) -> Cowshed:
    """Three containers: ann of base:1, bea of a commit of ann, and cid of base:1."""
    cowshed.ok(
        "create", "--name", "ann", "-l", "farm=hill", "base:1", "sh", "-c", "echo a b c d e f"
    )
    cowshed.ok("commit", "ann", "child:1")
    cowshed.ok("create", "--name", "bea", "child:1")
    cowshed.ok("create", "--name", "cid", "base:1")
    return cowshed


def test_ps_prints_the_columns_of_docker_ps(herd: Cowshed):
    heading, cid, bea, ann = herd.lines("ps", "-a")
    assert re.fullmatch(
        r"CONTAINER ID   IMAGE     COMMAND                  CREATED +STATUS    NAMES", heading
    )
    short = r"[0-9a-f]{12}   "
    assert re.fullmatch(rf'{short}base:1    "sh" {{21}}{AGE}Created   cid', cid)
    assert re.fullmatch(rf'{short}child:1   "sh -c echo a b c d …"   {AGE}Created   bea', bea)
    assert re.fullmatch(rf'{short}base:1    "sh -c echo a b c d …"   {AGE}Created   ann', ann)


def test_without_all_only_mounted_containers_are_listed(herd: Cowshed):
    assert len(herd.lines("ps")) == 1
    herd.ok("mount", "bea")
    assert herd.lines("ps", *NAMES) == ["bea"]
    assert herd.lines("ps", "--format", "{{.Status}} {{.State}}") == ["Mounted mounted"]


def test_quiet_latest_and_last_choose_by_age(herd: Cowshed):
    ids = herd.lines("ps", "-aq", "--no-trunc")
    assert [id[:12] for id in ids] == herd.lines("ps", "-aq")
    assert herd.lines("ps", "-l", *NAMES) == ["cid"]
    assert herd.lines("ps", "-n", "2", *NAMES) == ["cid", "bea"]


def test_filters_choose_containers(herd: Cowshed):
    herd.ok("mount", "cid")
    [id] = herd.lines("ps", "-aq", "-f", "name=ann")
    chosen = {
        "name=b": ["bea"],
        "name=^a|c": ["cid", "ann"],
        f"id={id[:6]}": ["ann"],
        "ancestor=base:1": ["cid", "bea", "ann"],
        "ancestor=child:1": ["bea"],
        "label=farm": ["bea", "ann"],
        "label=farm=dale": [],
        "status=created": ["bea", "ann"],
        "status=mounted": ["cid"],
        "status=exited": [],
    }
    for text, names in chosen.items():
        assert herd.lines("ps", "-a", "-f", text, *NAMES) == names, text
    assert herd.lines("ps", "-a", "-f", "name=ann", "-f", "name=cid", *NAMES) == ["cid", "ann"]
    assert "no status" in herd.refused("ps", "-f", "status=asleep", status=2)
    assert "pattern" in herd.refused("ps", "-f", "name=(", status=2)
    assert "KEY=VALUE" in herd.refused("ps", "-f", "colour=red", status=2)


def test_json_is_one_document_with_documented_fields(herd: Cowshed):
    [cid] = herd.json("ps", "-l", "--format", "json")
    [image] = herd.json("inspect", "base:1")
    assert cid == {
        "Id": herd.lines("ps", "-lq", "--no-trunc")[0],
        "Name": "cid",
        "Image": "base:1",
        "ImageId": image["Id"],
        "Command": ["sh"],
        "Created": herd.json("inspect", "cid")[0]["Created"],
        "State": "created",
        "Status": "Created",
        "Mountpoints": [],
        "Labels": {},
        "SizeLimit": None,
    }


def test_size_is_what_a_container_added_and_that_with_its_image(herd: Cowshed):
    herd.write("cid", "/etc/motd", "x" * 1500)
    heading, row = herd.lines("ps", "-s", "-l")
    assert heading.endswith("NAMES     SIZE")
    assert row.endswith("cid       1.5kB (virtual 1.51kB)")
    assert herd.json("ps", "-sl", "--format", "json")[0]["Size"] == 1500


def test_an_image_without_a_name_is_shown_by_its_id(herd: Cowshed):
    herd.ok("rmi", "-f", "child:1")
    [shown] = herd.lines("ps", "-a", "-f", "name=bea", "--format", "{{.Image}}")
    assert re.fullmatch("[0-9a-f]{12}", shown)


def test_mount_prints_the_path_of_the_tree(cowshed: Cowshed):
    id = cowshed.ok("create", "--name", "ann", "base:1").strip()
    point = cowshed.ok("mount", "ann").strip()
    assert Path(point, "etc/motd").read_text() == "moo\n"
    assert cowshed.lines("mount") == [f"{id[:12]}   {point}"]
    assert cowshed.lines("mount", "--no-trunc") == [f"{id}   {point}"]
    [mounted] = cowshed.json("mount", "--format", "json")
    assert mounted == {"Id": id, "Name": "ann", "Mountpoint": point}
    assert cowshed.ok("umount", "ann") == "ann\n"
    assert not os.path.exists(point)
    assert cowshed.lines("mount") == []


def test_umount_all_and_its_other_spelling(herd: Cowshed):
    assert len(herd.lines("mount", "--all")) == 3
    assert herd.lines("unmount", "ann") == ["ann"]
    assert sorted(herd.lines("umount", "-a")) == ["bea", "cid"]
    assert herd.lines("umount", "-a") == []
    assert "not mounted" in herd.refused("umount", "ann")
    assert "CONTAINER" in herd.refused("umount", status=2)


def test_a_mount_in_use_is_named(cowshed: Cowshed):
    cowshed.ok("create", "--name", "ann", "base:1")
    point = cowshed.ok("mount", "ann").strip()
    with open(f"{point}/etc/motd"):
        said = cowshed.refused("umount", "ann")
    assert "in use" in said
    cowshed.ok("umount", "ann")


@pytest.mark.parametrize("where", ["cowshed", "on_btrfs", ON_ZFS])
def test_rm_prints_what_it_removed(request: pytest.FixtureRequest, where: str):
    store: Cowshed = request.getfixturevalue(where)
    ids = store.lines("create", "-n", "2", "base:1")
    assert store.lines("rm", ids[0][:12], ids[1]) == [ids[0][:12], ids[1]]
    assert store.lines("ps", "-aq") == []


def test_rm_refuses_a_mounted_container_unless_forced(herd: Cowshed):
    point = herd.ok("mount", "ann").strip()
    assert point in herd.refused("rm", "ann")
    assert herd.lines("rm", "-f", "ann") == ["ann"]
    assert herd.lines("ps", "-a", *NAMES) == ["cid", "bea"]


def test_rm_goes_on_after_an_error_and_ends_with_1(herd: Cowshed):
    done = herd("rm", "ann", "nobody", "cid")
    assert (done.returncode, done.stdout) == (1, "ann\ncid\n")
    assert done.stderr.startswith("Error: no container is called nobody")
    assert herd.ok("rm", "-i", "nobody") == ""


def test_rm_all_removes_every_container(herd: Cowshed):
    assert sorted(herd.lines("rm", "-a")) == ["ann", "bea", "cid"]
    assert "CONTAINER" in herd.refused("rm", status=2)
    assert "CONTAINER" in herd.refused("rm", "-a", "x", status=2)


def test_an_ambiguous_prefix_lists_what_it_matches(cowshed: Cowshed):
    ids = cowshed.lines("create", "-n", "17", "base:1")
    first = next(id[0] for id in ids if sum(other[0] == id[0] for other in ids) > 1)
    said = cowshed.refused("rm", first)
    assert said.startswith(f"{first} matches several containers: ")


def test_rename_frees_the_old_name(herd: Cowshed):
    herd.ok("rename", "ann", "dot")
    assert herd.lines("ps", "-a", *NAMES) == ["cid", "bea", "dot"]
    assert "in use" in herd.refused("rename", "bea", "cid")
    assert "container name" in herd.refused("rename", "bea", "b/c")
    assert "no container" in herd.refused("rename", "ann", "eve")


def test_forced_rm_tells_what_is_not_there_and_is_content(herd: Cowshed):
    done = herd("rm", "-fv", "nobody", "ann")
    assert (done.returncode, done.stdout) == (0, "ann\n")
    assert done.stderr.startswith("Error: no container is called nobody")
    assert herd.refused("rm", "nobody")


def test_a_template_counts_sizes_if_it_shows_them(herd: Cowshed):
    herd.write("cid", "/etc/motd", "x" * 1500)
    assert herd.ok("ps", "-l", "--format", "{{.Size}}") == "1.5kB (virtual 1.51kB)\n"


def test_templates_have_the_fields_of_docker_ps(herd: Cowshed):
    herd.ok("create", "--name", "dot", "-v", "data:/d", "--network", "none", "base:1")
    form = "{{.Mounts}}|{{.LocalVolumes}}|{{.Networks}}|{{.Ports}}"
    assert herd.ok("ps", "-l", "--format", form) == "data|1|none|\n"
    shown = herd.lines("ps", "-a", "--format", '{{.Names}} {{.Label "farm"}}.')
    assert shown == ["dot .", "cid .", "bea hill.", "ann hill."]
    assert herd.ok("ps", "-l", "--format", "{{json .Names}}") == '"dot"\n'


def test_ps_chooses_by_what_was_made_before_and_since(herd: Cowshed):
    assert herd.lines("ps", "-a", "-f", "before=bea", *NAMES) == ["ann"]
    assert herd.lines("ps", "-a", "-f", "since=bea", *NAMES) == ["cid"]
    assert "nobody" in herd.refused("ps", "-f", "since=nobody")
