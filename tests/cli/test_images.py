"""images, history, tag and rmi."""

import json
import re
from pathlib import Path

from tests.cli.conftest import Cowshed

AGE = r"(?:\d+ seconds?|Less than a second|About a minute|\d+ minutes) ago *"


def full_id(cowshed: Cowshed, name: str) -> str:
    return cowshed.json("inspect", "--type", "image", name)[0]["Id"].removeprefix("sha256:")


def test_images_prints_the_columns_of_docker_images(cowshed: Cowshed):
    heading, row = cowshed.lines("images")
    assert re.fullmatch(r"REPOSITORY   TAG       IMAGE ID       CREATED +SIZE", heading)
    assert re.fullmatch(rf"base         1         [0-9a-f]{{12}}   {AGE}9B", row)


def test_an_empty_store_lists_only_the_headings(empty: Cowshed):
    assert empty.lines("images") == ["REPOSITORY   TAG       IMAGE ID   CREATED   SIZE"]
    assert empty.ok("images", "-n") == ""
    assert empty.ok("images", "--tree") == ""
    assert empty.ok("images", "--format", "json") == "[]\n"


def test_every_tag_has_a_line_of_its_own(cowshed: Cowshed):
    cowshed.ok("tag", "base:1", "localhost:5000/team/app:v2")
    rows = cowshed.lines("images", "--format", "{{.Repository}} {{.Tag}}")
    assert rows == ["base 1", "localhost:5000/team/app v2"]


def test_quiet_prints_ids_short_or_in_full(cowshed: Cowshed):
    id = full_id(cowshed, "base:1")
    assert cowshed.lines("images", "-q") == [id[:12]]
    assert cowshed.lines("images", "-q", "--no-trunc") == [f"sha256:{id}"]
    assert f"sha256:{id}" in cowshed.ok("images", "--no-trunc")


def test_json_is_one_document_with_documented_fields(cowshed: Cowshed):
    cowshed.ok("tag", "base:1", "other")
    [image] = cowshed.json("images", "--format", "json")
    assert image == {
        "Id": f"sha256:{full_id(cowshed, 'base:1')}",
        "ParentId": "",
        "RepoTags": ["base:1", "other:latest"],
        "Created": cowshed.json("inspect", "base:1")[0]["Created"],
        "Size": 9,
        "Containers": 0,
        "Dangling": False,
        "Digest": None,
        "Labels": {},
    } | {"Created": image["Created"]}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z", image["Created"])


def test_a_template_fills_in_fields_and_may_make_a_table(cowshed: Cowshed):
    assert cowshed.ok("images", "--format", "{{.Repository}}={{.Size}}") == "base=9B\n"
    table = cowshed.lines("images", "--format", r"table {{.Repository}}\t{{.Size}}")
    assert table == ["REPOSITORY   SIZE", "base         9B"]


def test_a_template_beyond_what_is_offered_is_one_clear_error(cowshed: Cowshed):
    for form in ("{{range .}}x{{end}}", "{{.ID", "plain", "{{.Nothing}}", "{{json}}"):
        assert "--format" in cowshed.refused("images", "--format", form, status=2)


def test_images_are_chosen_by_name_pattern_and_label(cowshed: Cowshed, rootfs: Path):
    cowshed.ok("import", "-c", "LABEL stage=test", str(rootfs), "team/app:2")
    names = ("--format", "{{.Repository}}:{{.Tag}}")
    assert cowshed.lines("images", *names, "base") == ["base:1"]
    assert cowshed.lines("images", *names, "base:1") == ["base:1"]
    assert cowshed.lines("images", *names, "docker.io/library/base") == ["base:1"]
    assert cowshed.lines("images", *names, "base:2") == []
    assert cowshed.lines("images", *names, "*") == ["base:1"]
    assert cowshed.lines("images", *names, "-f", "reference=*/*:?") == ["team/app:2"]
    assert cowshed.lines("images", *names, "-f", "label=stage") == ["team/app:2"]
    assert cowshed.lines("images", *names, "-f", "label=stage=test") == ["team/app:2"]
    assert cowshed.lines("images", *names, "-f", "label=stage=other") == []
    assert cowshed.lines("images", *names, "-f", "before=team/app:2") == ["base:1"]
    assert cowshed.lines("images", *names, "-f", "since=base:1") == ["team/app:2"]
    assert cowshed.lines("images", *names, "-f", "until=1h") == []


def test_dangling_images_are_those_that_lost_their_name(cowshed: Cowshed, rootfs: Path):
    cowshed.ok("import", str(rootfs), "base:1")
    named = ("--format", "{{.Repository}}:{{.Tag}}")
    assert cowshed.lines("images", *named, "-f", "dangling=true") == ["<none>:<none>"]
    assert cowshed.lines("images", *named, "-f", "dangling=false") == ["base:1"]


def test_a_filter_that_is_none_is_wrong_usage(cowshed: Cowshed):
    assert "dangling" in cowshed.refused("images", "-f", "colour=red", status=2)
    assert "neither true" in cowshed.refused("images", "-f", "dangling=maybe", status=2)
    assert "no image" in cowshed.refused("images", "-f", "before=nothing")


def test_sorting_is_by_the_column_asked_for(cowshed: Cowshed, rootfs: Path):
    cowshed.ok("import", str(rootfs), "aaa:9")
    named = ("--format", "{{.Repository}}")
    assert cowshed.lines("images", *named) == ["aaa", "base"]
    assert cowshed.lines("images", *named, "--sort", "repository") == ["aaa", "base"]
    assert cowshed.lines("images", *named, "--sort", "tag") == ["base", "aaa"]
    ids = cowshed.lines("images", "-q", "--sort", "id")
    assert ids == sorted(ids)
    assert "--sort" in cowshed.refused("images", "--sort", "colour", status=2)


def test_all_shows_untagged_images_below_others(cowshed: Cowshed):
    cowshed.ok("create", "--name", "cow", "base:1")
    cowshed.ok("commit", "cow", "middle")
    cowshed.ok("create", "--name", "dam", "middle")
    cowshed.ok("commit", "dam", "top")
    cowshed.ok("rmi", "-f", "middle")
    named = ("--format", "{{.Repository}}")
    assert cowshed.lines("images", *named) == ["top", "base"]
    assert cowshed.lines("images", *named, "-a") == ["top", "<none>", "base"]


def test_the_tree_shows_layers_below_each_other(cowshed: Cowshed):
    cowshed.ok("create", "--name", "cow", "base:1")
    cowshed.ok("commit", "cow", "one")
    cowshed.write("cow", "/etc/motd", "longer\n")
    cowshed.ok("commit", "cow", "two")
    cowshed.ok("create", "--name", "dam", "one")
    cowshed.ok("commit", "dam", "three")
    cowshed.ok("rmi", "-f", "one")
    tree = [re.sub("[0-9a-f]{12}", "ID", line) for line in cowshed.lines("images", "--tree")]
    assert tree == [
        "ID        9B      base:1",
        "├─ ID     0B      <none>",
        "│  └─ ID  0B      three:latest",
        "└─ ID     7B      two:latest",
    ]
    said = cowshed.refused("images", "--tree", "-q", "--no-trunc", status=2)
    assert "does not go with --quiet and --no-trunc" in said


def test_history_has_the_columns_of_docker_history(cowshed: Cowshed):
    cowshed.ok("create", "--name", "cow", "base:1", "sh", "-c", "x" * 60)
    cowshed.ok("commit", "-m", "a comment", "cow", "top")
    heading, top, base = cowshed.lines("history", "top")
    assert re.fullmatch(r"IMAGE          CREATED +CREATED BY +SIZE      COMMENT", heading)
    assert re.fullmatch(rf"[0-9a-f]{{12}}   {AGE}sh -c {'x' * 38}…   0B        a comment", top)
    assert re.fullmatch(rf"[0-9a-f]{{12}}   {AGE}9B +Imported from .*rootfs.tar", base)
    assert "x" * 60 in cowshed.ok("history", "--no-trunc", "top")


def test_history_names_the_image_that_each_step_ended_in(cowshed: Cowshed):
    cowshed.ok("create", "--name", "cow", "base:1")
    cowshed.ok("commit", "--squash", "cow", "flat")
    cowshed.ok("create", "--name", "dam", "flat")
    cowshed.ok("commit", "dam", "top")
    ids = [full_id(cowshed, name)[:12] for name in ("top", "flat")]
    assert cowshed.lines("history", "-q", "top") == ids


def test_history_gives_bytes_and_dates_to_programs(cowshed: Cowshed):
    _, row = cowshed.lines("history", "--no-human", "base:1")
    assert re.search(r"   \d{4}-\d\d-\d\dT[0-9:.]+Z +9  ", row)
    [step] = cowshed.json("history", "--format", "json", "base:1")
    assert (step["Size"], step["CreatedBy"], step["Tags"]) == (9, "", ["base:1"])


def test_control_characters_in_comments_reach_no_terminal(cowshed: Cowshed):
    cowshed.ok("create", "--name", "cow", "base:1")
    cowshed.ok("commit", "-m", "\x1b]0;owned\x07\nnext", "cow", "evil")
    shown = cowshed.ok("history", "evil")
    assert r"\x1b]0;owned\x07\nnext" in shown
    assert "\x1b" not in shown
    document = cowshed.ok("history", "--format", "json", "evil")
    assert json.loads(document)[0]["Comment"] == "\x1b]0;owned\x07\nnext"
    assert "\x1b" not in document


def test_tag_moves_a_name_and_checks_it(cowshed: Cowshed):
    cowshed.ok("tag", "base:1", "new")
    assert full_id(cowshed, "new") == full_id(cowshed, "base:1")
    assert "lowercase" in cowshed.refused("tag", "base:1", "Upper")
    assert "digest" in cowshed.refused("tag", "base:1", f"x@sha256:{'0' * 64}")
    assert "no image is called nothing" in cowshed.refused("tag", "nothing", "x")


def test_rmi_untags_then_deletes(cowshed: Cowshed):
    id = full_id(cowshed, "base:1")
    cowshed.ok("tag", "base:1", "second")
    assert cowshed.lines("rmi", "second") == ["Untagged: second:latest"]
    assert cowshed.lines("rmi", "base:1") == ["Untagged: base:1", f"Deleted: sha256:{id}"]
    assert cowshed.lines("images", "-aq") == []


def test_rmi_of_an_id_with_names_in_several_repositories_needs_force(cowshed: Cowshed):
    id = full_id(cowshed, "base:1")
    cowshed.ok("tag", "base:1", "second")
    assert "several repositories" in cowshed.refused("rmi", id[:12])
    assert cowshed.lines("rmi", "-f", id[:12])[-1] == f"Deleted: sha256:{id}"


def test_rmi_names_the_container_that_is_in_the_way(cowshed: Cowshed):
    cowshed.ok("create", "--name", "bessie", "base:1")
    assert "bessie" in cowshed.refused("rmi", "base:1")
    assert cowshed.lines("rmi", "-f", "base:1") == ["Untagged: base:1"]


def test_rmi_goes_on_after_an_error_and_ends_with_1(cowshed: Cowshed, rootfs: Path):
    cowshed.ok("import", str(rootfs), "other")
    done = cowshed("rmi", "base:1", "nothing", "other")
    assert done.returncode == 1
    assert done.stdout.count("Deleted") == 2
    assert done.stderr.startswith("Error: no image is called nothing")
    assert cowshed.ok("rmi", "--ignore", "nothing") == ""


def test_rmi_all_removes_every_image(cowshed: Cowshed):
    cowshed.ok("create", "--name", "cow", "base:1")
    cowshed.ok("commit", "cow", "top")
    cowshed.ok("commit", "cow")
    cowshed.ok("tag", "top", "again")
    cowshed.ok("rm", "cow")
    cowshed.ok("rmi", "-a")
    assert cowshed.lines("images", "-aq") == []
    assert "IMAGE" in cowshed.refused("rmi", status=2)


def test_no_prune_keeps_the_untagged_parent(cowshed: Cowshed):
    cowshed.ok("create", "--name", "cow", "base:1")
    cowshed.ok("commit", "cow", "top")
    cowshed.ok("rm", "cow")
    cowshed.ok("rmi", "base:1")
    cowshed.ok("rmi", "--no-prune", "top")
    assert len(cowshed.lines("images", "-aq")) == 1


def test_former_names_are_listed_on_request(cowshed: Cowshed):
    cowshed.ok("tag", "base:1", "old")
    cowshed.ok("rmi", "old")
    heading, row = cowshed.lines("images", "--history")
    assert heading.endswith("HISTORY")
    assert row.endswith("base:1, old:latest")


def test_forced_rmi_tells_what_is_not_there_and_is_content(cowshed: Cowshed):
    done = cowshed("rmi", "-f", "nothing")
    assert done.returncode == 0
    assert done.stderr.startswith("Error: no image is called nothing")


def test_an_image_tells_its_time_and_containers_as_docker_does(cowshed: Cowshed):
    form = "{{.CreatedAt}}|{{.Containers}}|{{.SharedSize}}|{{.VirtualSize}}"
    shown = cowshed.ok("images", "--format", form)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000 UTC\|0\|N/A\|9B\n", shown)


def test_a_wrong_field_fails_on_an_empty_list_too(empty: Cowshed):
    for command in ("images", "ps", "mount"):
        assert "no field Nope" in empty.refused(command, "--format", "{{.Nope}}", status=2)
