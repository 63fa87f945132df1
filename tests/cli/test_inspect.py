"""inspect, and the templates that all listings take."""

import pytest
import typer

from cli.template import Template
from tests.cli.conftest import Cowshed

DATA = {
    "Id": "abc",
    "Config": {"Env": ["A=b", "C=d"], "Labels": {"y": "2", "x": "1"}, "Cmd": None},
    "Running": False,
    "Size": 12,
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{.Id}}", "abc"),
        ("<{{ .Id }}> {{.Size}}", "<abc> 12"),
        ("{{.Config.Env}}", "[A=b C=d]"),
        ("{{.Config.Labels}}", "map[x:1 y:2]"),
        ("{{.Config.Labels.x}}", "1"),
        ("{{.Config.Labels.z}}", "<no value>"),
        ("{{.Config.Cmd}}", "<no value>"),
        ("{{.Config.Nothing.More}}", "<no value>"),
        ("{{.Running}}", "false"),
        ("{{json .Config.Env}}", '["A=b","C=d"]'),
        ("{{.Config.Env | json}}", '["A=b","C=d"]'),
        ('{{join .Config.Env ", "}}', "A=b, C=d"),
        ('{{index .Config.Labels "y"}}', "2"),
        ("{{index .Config.Env 1}}", "C=d"),
        ("{{index .Config.Env 1 | json}}", '"C=d"'),
    ],
)
def test_a_template_prints_values_as_go_does(template: str, text: str):
    assert Template(template).render(DATA) == text


@pytest.mark.parametrize(
    "template",
    [
        "{{.Id",
        ".Id}}",
        "{{}}",
        "{{range .Config}}",
        "{{if .Id}}x{{end}}",
        "{{.Id | upper}}",
        "{{.Id | }}",
        "{{json}}",
        "{{json .Id .Id}}",
        "{{.Config Env}}",
        '{{"text"}}',
        "{{- .Id -}}",
    ],
)
def test_anything_beyond_is_refused(template: str):
    with pytest.raises(typer.BadParameter):
        Template(template)


@pytest.mark.parametrize(
    "template",
    [
        "{{.Nothing}}",
        "{{.Id.More}}",
        "{{index .Config.Env 7}}",
        "{{index .Id 0}}",
        "{{join .Id 1}}",
    ],
)
def test_a_field_that_is_not_there_is_named(template: str):
    with pytest.raises(typer.BadParameter):
        Template(template).render(DATA)


def test_an_image_has_dockers_fields(cowshed: Cowshed):
    [image] = cowshed.json("inspect", "base:1")
    assert list(image) == [
        "Id",
        "RepoTags",
        "RepoDigests",
        "Digest",
        "Parent",
        "Comment",
        "Created",
        "Author",
        "Config",
        "Architecture",
        "Variant",
        "Os",
        "Size",
        "VirtualSize",
        "RootFS",
        "Backend",
        "Volume",
    ]
    assert image["RepoTags"] == ["base:1"]
    assert image["Config"] == {"Cmd": ["sh"]}
    assert image["Size"] == 9


def test_a_container_comes_before_an_image_of_the_same_name(cowshed: Cowshed):
    cowshed.ok("tag", "base:1", "same")
    id = cowshed.ok("create", "--name", "same", "base:1").strip()
    assert cowshed.json("inspect", "same")[0]["Id"] == id
    assert cowshed.json("inspect", "-t", "image", "same")[0]["RepoTags"] == [
        "base:1",
        "same:latest",
    ]
    assert cowshed.json("inspect", "-t", "container", "same")[0]["Name"] == "/same"
    assert "--type" in cowshed.refused("inspect", "-t", "volume", "same", status=2)


def test_what_is_found_is_shown_though_something_is_not(cowshed: Cowshed):
    done = cowshed("inspect", "-f", "{{.Id}}", "nothing", "base:1")
    assert done.returncode == 1
    assert done.stdout.startswith("sha256:")
    assert done.stderr.startswith("Error: no container and no image is called nothing")
    done = cowshed("inspect", "nothing")
    assert (done.returncode, done.stdout) == (1, "[]\n")


def test_size_counts_what_a_container_added(cowshed: Cowshed):
    cowshed.ok("create", "--name", "cow", "base:1")
    cowshed.write("cow", "/etc/motd", "twelve bytes")
    [shown] = cowshed.json("inspect", "-s", "cow")
    assert (shown["SizeRw"], shown["SizeRootFs"]) == (12, 21)
    assert "SizeRw" not in cowshed.json("inspect", "cow")[0]
