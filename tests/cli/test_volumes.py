"""The commands below volume, and what the others say of volumes."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, Cowshed
from tests.cli.test_completion import offered


@pytest.fixture
def herd(cowshed: Cowshed) -> Cowshed:
    """A store with the named volumes fodder and milk, and a container ann that has milk."""
    cowshed.ok("volume", "create", "--label", "farm=hill", "fodder")
    cowshed.ok("create", "--name", "ann", "-v", "milk:/milk", "base:1")
    return cowshed


def anonymous(cowshed: Cowshed) -> str:
    return cowshed.ok("volume", "create").strip()


def names(cowshed: Cowshed) -> list[str]:
    return cowshed.lines("volume", "ls", "-q")


def test_create_prints_the_name_and_leaves_what_is_there(herd: Cowshed):
    assert herd.ok("volume", "create", "hay") == "hay\n"
    assert herd.ok("volume", "create", "-d", "local", "--label", "a=b", "hay") == "hay\n"
    [shown] = herd.json("volume", "inspect", "hay")
    assert shown["Labels"] == {}
    made = anonymous(herd)
    assert len(made) == 64
    assert names(herd) == sorted(["fodder", "hay", "milk", made])


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("create", "a/b"), 1, "invalid volume name 'a/b'"),
        (("create", "x"), 1, "two or more"),
        (("create", ""), 1, "invalid volume name ''"),
        (("create", "-d", "nfs", "hay"), 2, "there is no driver 'nfs'"),
        (("create", "--label", "=b", "hay"), 2, "a label needs a name"),
        (("create", "one", "two"), 2, "unexpected extra argument"),
        (("ls", "-f", "color=red"), 2, "KEY=VALUE"),
        (("ls", "-f", "dangling=perhaps"), 2, "neither true nor false"),
        (("ls", "-f", "name=("), 2, "not a pattern"),
        (("ls", "--format", "{{.Color}}"), 2, "there is no field Color"),
        (("rm",), 2, "Missing argument"),
        (("rm", "nothing"), 1, "no volume is called nothing: cowshed volume ls"),
        (("rm", "milk"), 1, "volume milk is in use by container ann: remove the container first"),
        (("rm", "-f", "milk"), 1, "in use by container ann"),
        (("prune",), 1, "--force"),
        (("prune", "--filter", "until=1h"), 2, "KEY=VALUE"),
        (("create2",), 2, "there is no command 'create2'; did you mean create?"),
        (("delete",), 2, "there is no command 'delete'"),
    ],
)
def test_what_is_wrong_is_one_line_and_changes_nothing(
    herd: Cowshed, arguments: tuple[str, ...], status: int, said: str
):
    assert said in herd.refused("volume", *arguments, status=status)
    assert names(herd) == ["fodder", "milk"]


def test_a_prune_of_all_with_volumes_takes_no_until(herd: Cowshed):
    said = herd.refused("prune", "-f", "--volumes", "--filter", "until=1h", status=2)
    assert "until is not for volumes" in said
    assert herd.lines("ps", "-aq") != []


def test_a_name_that_is_not_utf8_is_no_crash(herd: Cowshed):
    for arguments in (("create", b"\xff\xff"), ("create", "--label", b"\xff"), ("rm", b"\xff")):
        done = herd.raw("volume", *arguments)
        assert done.returncode in (1, 2)
        assert done.stderr.startswith(b"Error: ") and b"internal" not in done.stderr


def test_ls_has_the_columns_of_docker(herd: Cowshed):
    lines = herd.lines("volume", "ls")
    assert lines == ["DRIVER    VOLUME NAME", "local     fodder", "local     milk"]
    assert herd.lines("volume", "list") == lines


def test_ls_chooses_by_name_label_and_use(herd: Cowshed):
    def chosen(*filters: str) -> list[str]:
        options = [word for text in filters for word in ("-f", text)]
        return herd.lines("volume", "ls", "-q", *options)

    assert chosen("name=od") == chosen("label=farm=hill") == chosen("dangling=true") == ["fodder"]
    assert chosen("dangling=false") == ["milk"]
    assert chosen("name=^milk$", "name=^fodder$") == ["fodder", "milk"]
    assert chosen("label=farm=valley") == chosen("driver=nfs") == []


def test_ls_prints_templates_and_json(herd: Cowshed):
    form = '{{.Name}} {{.Links}} {{.Label "farm"}}.'
    assert herd.lines("volume", "ls", "--format", form) == ["fodder 0 hill.", "milk 1 ."]
    fodder, milk = herd.json("volume", "ls", "--format", "json")
    assert (fodder["Name"], fodder["Links"], fodder["Labels"]) == ("fodder", 0, {"farm": "hill"})
    assert (milk["Links"], milk["Anonymous"], milk["Size"]) == (1, False, None)


def test_inspect_has_the_fields_of_docker(herd: Cowshed):
    [shown] = herd.json("volume", "inspect", "fodder")
    assert sorted(shown) == [
        "CreatedAt", "Driver", "Labels", "Mountpoint", "Name", "Options", "Scope"
    ]  # fmt: skip
    assert os.path.isdir(shown["Mountpoint"])
    assert (shown["Driver"], shown["Scope"], shown["Labels"]) == (
        "local",
        "local",
        {"farm": "hill"},
    )
    assert herd.ok("volume", "inspect", "-f", "{{.Name}}", "fodder") == "fodder\n"
    id = anonymous(herd)
    assert herd.json("volume", "inspect", id[:12])[0]["Name"] == id


def test_inspect_tells_what_is_not_there_and_shows_the_rest(herd: Cowshed):
    done = herd("volume", "inspect", "nothing", "fodder")
    assert done.returncode == 1
    assert [shown["Name"] for shown in json.loads(done.stdout)] == ["fodder"]
    assert done.stderr.startswith("Error: no volume is called nothing")


def test_rm_goes_on_after_one_that_it_cannot_remove(herd: Cowshed):
    done = herd("volume", "rm", "milk", "fodder")
    assert (done.returncode, done.stdout) == (1, "fodder\n")
    assert names(herd) == ["milk"]
    assert herd.ok("volume", "rm", "-f", "nothing") == "nothing\n"


def test_rm_of_a_container_leaves_its_volumes_and_with_v_takes_the_anonymous(herd: Cowshed):
    kept = herd.ok("create", "--name", "bea", "-v", "/cache", "base:1")
    assert kept
    herd.ok("create", "--name", "cid", "-v", "/cache", "-v", "milk:/m", "base:1")
    assert len(names(herd)) == 4
    herd.ok("rm", "bea")
    assert len(names(herd)) == 4
    herd.ok("rm", "-v", "cid")
    assert len(names(herd)) == 3
    assert "milk" in names(herd)
    assert herd.ok("check") == "No problems found.\n"


def test_prune_takes_anonymous_volumes_and_with_a_those_with_a_name(herd: Cowshed):
    loose = anonymous(herd)
    lines = herd.lines("volume", "prune", "-f")
    assert lines[:3] == ["Deleted Volumes:", loose, ""]
    assert lines[3].startswith("Total reclaimed space: ")
    assert herd.lines("volume", "prune", "-f") == ["Total reclaimed space: 0B"]
    herd.ok("volume", "prune", "-af", "--filter", "label!=farm")
    assert names(herd) == ["fodder", "milk"]
    herd.ok("volume", "prune", "-af", "--filter", "label=farm=hill")
    assert names(herd) == ["milk"]


def test_prune_asks_on_a_terminal(herd: Cowshed):
    anonymous(herd)
    for answer, left in ((b"n\n", 3), (b"y\n", 2)):
        ours, theirs = os.openpty()
        running = herd.start(
            "volume", "prune", stdin=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        os.write(ours, answer)
        _, asked = running.communicate()
        os.close(ours)
        os.close(theirs)
        assert b"  - all anonymous volumes not used by at least one container" in asked
        assert running.returncode == (answer == b"n\n")
        assert len(names(herd)) == left


def test_prune_of_all_takes_volumes_only_where_they_are_asked_for(herd: Cowshed):
    loose = anonymous(herd)
    herd.ok("create", "--name", "bea", "-v", "/cache", "base:1")
    herd.ok("prune", "-f")
    assert len(names(herd)) == 4
    lines = herd.lines("prune", "-f", "--volumes")
    assert lines[0] == "Deleted Volumes:" and loose in lines[1:3] and lines[3] == ""
    assert names(herd) == ["fodder", "milk"]


def test_df_has_a_line_for_volumes(herd: Cowshed):
    [line] = [line for line in herd("df").stdout.splitlines() if line.startswith("Local Volumes")]
    assert line.split() == ["Local", "Volumes", "2", "1", "N/A", "N/A"]
    document = herd.json("df", "-v", "--format", "json")
    assert document["Usage"][2]["Type"] == "Local Volumes"
    assert document["Volumes"] == [
        {"Name": "fodder", "Links": 0, "Size": None},
        {"Name": "milk", "Links": 1, "Size": None},
    ]
    assert "VOLUME NAME   LINKS     SIZE" in herd("df", "-v").stdout


def test_ps_counts_volumes_and_names_them(herd: Cowshed):
    herd.ok("create", "-v", "/cache", "-v", "milk:/m", "-v", "/etc:/e", "base:1")
    shown = herd.ok("ps", "-l", "--format", "{{.LocalVolumes}} {{.Mounts}}").split()
    [cache] = [name for name in names(herd) if len(name) == 64]
    assert (shown[0], shown[1].split(",")) == ("2", ["/etc", cache[:12], "milk"])
    assert cache in herd.ok("ps", "-l", "--no-trunc", "--format", "{{.Mounts}}")


def test_a_container_of_an_image_with_a_volume_gets_one(cowshed: Cowshed, rootfs: Path):
    cowshed.ok("import", "-c", "VOLUME /data", str(rootfs), "data:1")
    cowshed.ok("create", "data:1")
    [name] = names(cowshed)
    assert len(name) == 64


def test_the_group_alone_is_wrong_usage_and_shows_its_commands(herd: Cowshed):
    done = herd("volume")
    assert (done.returncode, done.stdout) == (2, "")
    assert "  prune    Remove the volumes that no container has." in done.stderr
    for shown in (herd.ok("volume", "--help"), herd.ok("help", "volume")):
        assert shown.startswith("Usage: cowshed volume [OPTIONS] COMMAND")
        assert "remove" not in shown.partition("Commands:")[2].split()
    assert herd.ok("volume", "rm", "--help").startswith("Usage: cowshed volume rm [OPTIONS] VOLUME")


@pytest.mark.parametrize("name", ["create", "ls", "inspect", "rm", "prune"])
def test_the_help_of_a_command_begins_as_the_list_has_it(tmp_path: Path, name: str):
    nowhere = Cowshed(tmp_path / "nowhere")
    listed = nowhere.ok("volume", "--help")
    first = nowhere.ok("volume", name, "--help").splitlines()[2].strip()
    assert f"{name}  " in listed and first in listed
    assert not nowhere.root.exists()


def test_commands_and_names_are_completed(herd: Cowshed):
    id = anonymous(herd)
    assert offered(herd, "vol") == ["volume"]
    assert offered(herd, "volume", "") == ["create", "ls", "inspect", "rm", "prune"]
    assert offered(herd, "volume", "rm", "") == ["fodder", "milk"]
    assert offered(herd, "volume", "inspect", id[:3]) == [id[:12]]
    assert "--filter" in offered(herd, "volume", "ls", "--")


def test_the_help_of_the_group_imports_no_store(herd: Cowshed):
    code = (
        "import sys; from cli.main import main; main(['volume', '--help']);"
        "print(sorted(sys.modules), file=sys.stderr)"
    )
    command = [COMMAND[0], "-c", code]
    done = subprocess.run(command, env=herd.env, capture_output=True, text=True, check=True)
    assert "'imagegraph'" not in done.stderr and "'rich'" not in done.stderr
