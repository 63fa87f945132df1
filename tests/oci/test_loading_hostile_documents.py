"""Archives of images whose documents are damaged, malicious or odd, loaded into a real store."""

import json

import pytest

from oci.bundle import MAX_DOCUMENTS
from oci.errors import ArchiveError
from oci.json import MAX_SIZE
from tests.oci.archives import header, member, pax
from tests.oci.bundles import (
    BETTER,
    GOOD,
    OCI_INDEX,
    OCI_MANIFEST,
    Block,
    Layout,
    config,
    docker,
    legacy,
    manifest_json,
    manifest_of,
    oci,
    sha256,
    special,
    with_config,
)

# JSON that is none, or too much

JUNK = [
    (b"", "is not valid JSON"),
    (b"\0" * 100, "is not valid JSON"),
    (b"null", "is not a"),
    (b"[" * 100_000, "is nested more than"),
    (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "is nested more than"),
    (b"[" + b"[]," * 500_000 + b"[]]", "lists and objects"),
    (b'{"a":"' + b"x" * MAX_SIZE + b'"}', "at most"),
    (b'{"a":NaN}', "is not valid JSON"),
    (b'{"a":-Infinity}', "is not valid JSON"),
    (b'{"a":' + b"9" * 100_000 + b"}", "100 digits"),
    (b'{"a":"\xff\xfe"}', "is not UTF-8"),
    (b'{"a":"\\ud800"}', "is not valid JSON"),
    (b"\xef\xbb\xbf{}", "is not valid JSON"),
    (b"{}" + b"{}", "is not valid JSON"),
    (b'"\x1b[2J"', "is not"),
    (b"7", "is not a"),
    (b"[[]]", "is not a"),
]


@pytest.mark.parametrize(("junk", "says"), JUNK, ids=[repr(data[:12]) for data, _ in JUNK])
def test_no_document_may_be_junk(hostile, junk, says):
    archives = [
        {**docker(GOOD), "manifest.json": junk},
        {**oci(GOOD), "oci-layout": junk},
        {**oci(GOOD), "index.json": junk},
        {**legacy(GOOD), "repositories": junk},
        {**legacy(GOOD, BETTER), f"{0:064x}/json": junk},
        *with_config(junk, GOOD),
    ]
    layout = Layout()
    archives.append(layout.index(layout.add(junk, OCI_MANIFEST)))
    layout = Layout()
    archives.append(layout.index(layout.add(junk, OCI_INDEX)))
    for files in archives:
        assert says in hostile.refuse(files, ArchiveError)


WRONG = [None, True, 7, 1.5, "x", [], {}, [None], [[]], {"x": {}}, "\u001b[2J\n", "x" * 100_000]


@pytest.mark.parametrize(
    ("document", "fields"),
    [
        ("manifest.json", ["Config", "RepoTags", "Layers", "LayerSources"]),
        ("config", ["rootfs", "history", "architecture", "os", "created", "author", "variant"]),
        ("manifest", ["schemaVersion", "mediaType", "config", "layers", "annotations"]),
        ("index.json", ["schemaVersion", "mediaType", "manifests", "annotations"]),
        ("repositories", ["evil", "other"]),
    ],
)
def test_a_field_of_the_wrong_type_ends_in_one_line_or_does_no_harm(hostile, document, fields):
    refused = 0
    for field in fields:
        for value in WRONG:
            try:
                hostile.take(_odd(document, field, value))
            except ArchiveError as error:
                assert str(error).isprintable() and len(str(error)) < 1000
                hostile.is_empty()
                refused += 1
    assert refused >= 6 * len(fields)


def _odd(document, field, value):
    """An archive in which one field of a document has this value."""
    if document == "manifest.json":
        files = docker(GOOD)
        [image] = json.loads(files["manifest.json"])
        return {**files, "manifest.json": json.dumps([{**image, field: value}]).encode()}
    if document == "config":
        return docker(GOOD, document=config([sha256(GOOD)], **{field: value}))
    if document == "manifest":
        return manifest_of(**{field: value})
    files = oci(GOOD) if document == "index.json" else legacy(GOOD)
    return {**files, document: json.dumps({**json.loads(files[document]), field: value}).encode()}


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("User", [7, []]),
        ("ExposedPorts", ["80", ["80"]]),
        ("Env", ["A=b", {"A": "b"}, [7], [None]]),
        ("Entrypoint", ["sh", {}, [7], [["sh"]]]),
        ("Cmd", ["sh", True, [None]]),
        ("Healthcheck", ["true", []]),
        ("Volumes", [["/v"], "/v"]),
        ("WorkingDir", [7, ["/"]]),
        ("Labels", [["a=b"], "a=b", {"a": 7}, {"a": {}}]),
        ("StopSignal", [9, []]),
        ("OnBuild", ["RUN x", [7]]),
        ("Shell", ["sh", {}]),
    ],
)
def test_what_a_container_would_run_by_is_of_the_right_types(hostile, field, values):
    """Whoever reads the config later relies on it."""
    for value in values:
        document = config([sha256(GOOD)], config={field: value})
        said = hostile.refuse(docker(GOOD, document=document), ArchiveError)
        assert f"config.{field}" in said
    nothing = config([sha256(GOOD)], config={field: None})
    assert hostile.take(docker(GOOD, document=nothing)) == {"etc/motd": b"moo\n"}


@pytest.mark.parametrize(
    "created", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "1677-01-01T00:00:00Z"]
)
def test_a_time_that_does_not_fit_is_none(hostile, created):
    """Go's zero time among them, which real images have."""
    document = config([sha256(GOOD)], created=created)
    assert hostile.take(docker(GOOD, document=document)) == {"etc/motd": b"moo\n"}


def test_of_a_field_given_twice_the_last_counts(hostile):
    files = docker(GOOD)
    twice = files["manifest.json"].replace(b'"Layers"', b'"Layers": ["gone"], "Layers"')
    assert hostile.take({**files, "manifest.json": twice}) == {"etc/motd": b"moo\n"}
    twice = files["manifest.json"].replace(b"}]", b', "Layers": ["gone"]}]')
    assert "no file 'gone'" in hostile.refuse({**files, "manifest.json": twice})


@pytest.mark.parametrize(
    "path",
    ["../0/layer.tar", "/0/layer.tar", "", ".", "0/", "a\nb", "\u001b[2J", "x" * 5000, "0\u0000"],
)
def test_a_path_in_a_manifest_stays_inside(hostile, path):
    files = docker(GOOD)
    own = json.loads(files["manifest.json"])[0]["Config"]
    for changed in (manifest_json(own, [path]), manifest_json(path, ["0/layer.tar"])):
        said = hostile.refuse({**files, "manifest.json": changed}, ArchiveError)
        assert "leaves the archive" in said or "no path of a file" in said


def test_documents_are_bounded_all_together(hostile):
    """Each is small enough, but ten thousand images could share one."""
    document = config([sha256(GOOD)], comment="x" * (MAX_SIZE - 1000))
    files = docker(GOOD, document=document)
    [image] = json.loads(files["manifest.json"])
    files["manifest.json"] = json.dumps([image] * 10_000).encode()
    assert f"more than {MAX_DOCUMENTS} bytes of documents" in hostile.refuse(files, ArchiveError)


def test_members_are_bounded(hostile):
    files = {**docker(GOOD), "x": Block(special("d", b"5").blocks)}
    many = b"".join(special(f"{number}", b"5").blocks for number in range(100_001))
    assert "members" in hostile.refuse({**files, "x": Block(many)}, ArchiveError)


def test_names_of_members_are_bounded(hostile):
    name = "n" * 1_000_000
    many = b"".join(_long_name(f"{number}{name}") for number in range(17))
    assert "names of more than" in hostile.refuse({**docker(GOOD), "x": Block(many)}, ArchiveError)


def _long_name(name):
    return pax((b"path", name.encode())) + member(b"x")


def test_a_member_whose_name_is_not_utf8_is_no_harm(hostile):
    odd = Block(member(b"\xff\xfe\x1b[2J", b"x"))
    assert hostile.take({"x": odd, **docker(GOOD)}) == {"etc/motd": b"moo\n"}
    cut = Block(header(b"\xff\xfe", size=1 << 30))
    assert "cut short in '\\udcff\\udcfe'" in hostile.refuse(
        {**docker(GOOD), "x": cut}, ArchiveError
    )


# Names


BAD_NAMES = [
    "", ":", "UPPER:1", "a:b:c", "../etc:1", "a/../b:1", "evil:-x", "evil:" + "t" * 129,
    "evil@" + sha256(b""), "evil:\u00e9", "\u00e9vil:1", "e\nvil:1", "evil:\u001b[2J", "a" * 5000,
    "0" * 64, "http://evil.test/x:1", " evil:1", "evil:1 ", "e\u0000vil:1", "/evil:1", "evil/:1",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_name_is_refused(hostile, name):
    said = hostile.refuse(docker(GOOD, name=name), ArchiveError)
    assert said.startswith("manifest.json: ")
    if ":" in name.strip(":") or "/" in name:
        assert hostile.refuse(oci(GOOD, name=name), ArchiveError).startswith("index.json: ")


@pytest.mark.parametrize("tag", ["", "-x", "\u00e9", "t" * 129, "x/y", "\u001b[2J"])
def test_a_bad_tag_of_the_old_form_is_refused(hostile, tag):
    files = legacy(GOOD)
    files["repositories"] = json.dumps({"evil": {tag: f"{0:064x}"}}).encode()
    assert hostile.refuse(files, ArchiveError).startswith("repositories: ")


def test_an_image_whose_last_name_is_bad_takes_no_name_at_all(hostile):
    files = docker(GOOD)
    own = json.loads(files["manifest.json"])[0]["Config"]
    files["manifest.json"] = manifest_json(own, ["0/layer.tar"], "fine:1", "also/fine:2", "BAD")
    assert "BAD" in hostile.refuse(files, ArchiveError)
