"""Documents that are damaged or malicious: one clear line, naming the field, and never more."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci import dockerarchive, documents
from oci.digest import Digest
from oci.documents import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from oci.errors import ArchiveError
from oci.json import MAX_DEPTH, MAX_SIZE
from tests.oci.real_documents import LEGACY_TOP, UMOCI_CONFIG, UMOCI_INDEX

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
ID, OTHER = "c" * 64, "d" * 64
CONFIG = {"rootfs": {"type": "layers", "diff_ids": [A]}}
DESCRIPTOR = {"mediaType": OCI_CONFIG, "digest": A, "size": 1}
MANIFEST = {"schemaVersion": 2, "config": DESCRIPTOR, "layers": []}
LAYER = {"mediaType": documents.layer_type("gzip"), "digest": B, "size": 7}


def _dumped(document):
    return document if isinstance(document, bytes) else json.dumps(document).encode()


def _legacy(data):
    return dockerarchive.parse_legacy("ID/json", data)


PARSERS = {
    "manifest": lambda data: documents.parse_manifest("manifest", data),
    "index.json": lambda data: documents.parse_index("index.json", data),
    "config": lambda data: documents.parse_config("config", data),
    "oci-layout": lambda data: documents.parse_layout("oci-layout", data),
    "manifest.json": dockerarchive.parse_docker_manifest,
    "repositories": dockerarchive.parse_repositories,
    "ID/json": _legacy,
}
VALID = {
    "manifest": {**MANIFEST, "layers": [LAYER, LAYER], "annotations": {"a": "b"}},
    "index.json": json.loads(UMOCI_INDEX),
    "config": json.loads(UMOCI_CONFIG),
    "oci-layout": {"imageLayoutVersion": "1.0.0"},
    "manifest.json": [{"Config": "c.json", "RepoTags": None, "Layers": ["l"], "LayerSources": {}}],
    "repositories": {"a": {"1": ID}},
    "ID/json": json.loads(LEGACY_TOP),
}


def _refused(name, data):
    with pytest.raises(ArchiveError) as caught:
        PARSERS[name](_dumped(data))
    message = str(caught.value)
    assert message.isprintable() and len(message) < 1000, message
    return message


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is not valid JSON"),
        (b"null", "is not a"),
        (b'"text"', "is not a"),
        (b"nonsense", "is not valid JSON"),
        (b"\xef\xbb\xbf{}", "is not valid JSON"),
        (b"{} x", "trailing characters"),
        (b'[{"\xff":1}]', "is not UTF-8 (byte 3)"),
        (b'{"a":"\\ud800"}', "is not valid JSON"),
        (b'{"a":NaN}', "is not valid JSON"),
        (b'{"a":Infinity}', "is not valid JSON"),
        (b'{"a":' + b"9" * 5000 + b"}", "a number of 100 digits or more"),
        (b'{"a":1e999}', "a number of 100 digits or more"),
        (b"[" + b"{}," * 300_000 + b"0]", "holds more than 200000 lists and objects"),
        (b"[" * 100_000, f"is nested more than {MAX_DEPTH} deep"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, f"is nested more than {MAX_DEPTH} deep"),
        (b'{"a":"' + b"x" * MAX_SIZE + b'"}', f"a document may have {MAX_SIZE} at most"),
        (b'"' + b'\\"' * 2_000_000 + b"\\", "is not valid JSON"),
    ],
    ids=lambda value: None if isinstance(value, str) else repr(value[:12]),
)
def test_what_is_no_sound_json_is_refused_in_one_line(name, data, says):
    message = _refused(name, data)
    assert message.startswith(name) and says in message


@pytest.mark.parametrize("name", PARSERS)
def test_brackets_in_text_are_not_taken_for_nesting(name):
    valid = VALID[name]
    entry = valid[0] if isinstance(valid, list) else valid
    text = {"\\": '"' + "[" * 200 + '\\"', "b": "9" * 200}
    odd = text if name == "repositories" else {**entry, "odd": text}
    if name == "repositories":
        assert "is not an object" in _refused(name, odd)
    else:
        PARSERS[name](_dumped([odd] if isinstance(valid, list) else odd))


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("manifest", {}, "manifest: schemaVersion is missing"),
        ("manifest", {**MANIFEST, "schemaVersion": 1}, "schemaVersion 1 is not supported"),
        ("manifest", {**MANIFEST, "schemaVersion": 2.0}, "schemaVersion is not an integer"),
        ("manifest", {**MANIFEST, "schemaVersion": True}, "schemaVersion is not an integer"),
        ("manifest", {**MANIFEST, "manifests": []}, "the field manifests"),
        ("manifest", {"schemaVersion": 1, "fsLayers": []}, "the field fsLayers"),
        ("manifest", {**MANIFEST, "mediaType": OCI_INDEX}, "is not expected here"),
        ("manifest", {**MANIFEST, "config": {**DESCRIPTOR, "mediaType": "a/b"}}, "is no image"),
        ("manifest", {**MANIFEST, "config": {**DESCRIPTOR, "size": -1}}, "config has an imposs"),
        ("manifest", {**MANIFEST, "config": {**DESCRIPTOR, "size": 2**63}}, "impossible size"),
        ("manifest", {**MANIFEST, "config": {**DESCRIPTOR, "size": 2**70}}, "size"),
        ("manifest", {**MANIFEST, "config": {**DESCRIPTOR, "digest": 1}}, "config.digest is not t"),
        ("manifest", {**MANIFEST, "config": {"size": 1}}, "config.mediaType is missing"),
        ("manifest", {**MANIFEST, "layers": [None]}, "manifest: layers[0] is not an object"),
        ("manifest", {**MANIFEST, "layers": {}}, "manifest: layers is not a list"),
        ("manifest", {**MANIFEST, "layers": [LAYER] * 10_000}, "has 10000 layers; an image may"),
        ("manifest", {**MANIFEST, "layers": [{**LAYER, "mediaType": "x\n"}]}, "layers[0].mediaT"),
        ("manifest", {**MANIFEST, "annotations": {"a": 1}}, "annotations[...] is not text"),
        ("index.json", {"schemaVersion": 2, "layers": []}, "the field layers"),
        ("index.json", {"schemaVersion": 2, "config": {}}, "the field config"),
        ("index.json", {"schemaVersion": 2, "mediaType": OCI_MANIFEST}, "is not expected here"),
        ("index.json", {"schemaVersion": 2, "manifests": [{"a": 1}]}, "[0].mediaType is missing"),
        ("config", {}, "config: rootfs is missing"),
        ("config", {"rootfs": {"type": "layers+base"}}, "rootfs is of type 'layers+base'"),
        ("config", {"rootfs": {"type": "layers", "diff_ids": ["a"]}}, "rootfs.diff_ids[0] is 'a'"),
        ("config", {"rootfs": {"type": "layers", "diff_ids": [A] * 1001}}, "has 1001 layers"),
        ("config", {**CONFIG, "os": 1}, "config: os is not text"),
        ("config", {**CONFIG, "history": [{"empty_layer": 1}]}, "is neither true nor false"),
        ("oci-layout", {}, "imageLayoutVersion is missing"),
        ("oci-layout", {"imageLayoutVersion": "2.0.0"}, "'2.0.0' is not supported"),
        ("manifest.json", {}, "manifest.json is not a list"),
        ("manifest.json", [{"Layers": []}], "manifest.json: [0].Config is missing"),
        ("manifest.json", [{"Config": "c"}], "manifest.json: [0].Layers is missing"),
        (
            "manifest.json",
            [{"Config": "c", "Layers": ["a", "b", 3]}],
            "manifest.json: [0].Layers[2] is not text",
        ),
        ("manifest.json", [{"Config": "c", "Layers": ["a"] * 10_000}], "has 10000 layers"),
        ("manifest.json", [{"Config": "c", "Layers": [], "RepoTags": "x"}], "RepoTags is not a l"),
        (
            "manifest.json",
            [{"Config": "c", "Layers": [], "LayerSources": {"x": LAYER}}],
            "[0] has a key in LayerSources that is 'x'",
        ),
        ("repositories", {"a": {"1": "x"}}, "is 'x' and not 64 hexadecimal digits"),
        ("repositories", {"a": ["x"]}, "[...] is not an object"),
        ("ID/json", {"id": "../x"}, "id is '../x'"),
        ("ID/json", {"id": ID, "parent": ID.upper()}, "parent is"),
        ("ID/json", {"id": ID, "container_config": {"Cmd": {}}}, "container_config.Cmd"),
    ],
)
def test_a_field_that_is_wrong_is_named(name, data, says):
    message = _refused(name, data)
    assert message.startswith(name) and says in message


@pytest.mark.parametrize(
    "path",
    ["", ".", "./", "a/", "/a", "../a", "a/../b", "a/..", "..", "a\0b", "a\nb", "a" * 5000],
)
def test_a_path_that_leaves_the_archive_or_names_no_file_is_refused(path):
    for image in ({"Config": path, "Layers": []}, {"Config": "c", "Layers": [path]}):
        assert "[0]." in _refused("manifest.json", [image])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sha512:" + "a" * 128, "other than sha256 are not supported"),
        ("sha256:" + "a" * 63, "not sha256: with 64"),
        ("sha256:" + "A" * 64, "not sha256: with 64"),
        (A + "\n", "not sha256: with 64"),
        ("a" * 64, "not sha256: with 64"),
        ("", "not sha256: with 64"),
    ],
)
def test_a_digest_is_sha256_and_64_lower_case_digits(text, says):
    with pytest.raises(ValueError, match=says):
        Digest(text)


def test_a_legacy_document_that_would_make_an_unsound_config_is_refused():
    odd = _dumped({"id": ID, "architecture": 1})
    with pytest.raises(ArchiveError, match="ID/json: architecture is not text"):
        dockerarchive.migrated("ID/json", odd, [_legacy(odd)], [A])


def test_an_ancestor_that_is_missing_or_comes_round_again_is_named():
    first = _legacy(_dumped({"id": ID, "parent": OTHER}))
    second = _legacy(_dumped({"id": OTHER, "parent": ID}))
    with pytest.raises(ArchiveError, match=f"{OTHER} is not in the archive"):
        dockerarchive.ancestry({ID: first}, ID)
    with pytest.raises(ArchiveError, match=f"{ID} is its own ancestor"):
        dockerarchive.ancestry({ID: first, OTHER: second}, ID)


def test_a_chain_of_too_many_ancestors_is_refused():
    ids = [f"{number:064x}" for number in range(1002)]
    images = {
        own: _legacy(_dumped({"id": own, "parent": parent}))
        for own, parent in zip(ids, [*ids[1:], None], strict=True)
    }
    with pytest.raises(ArchiveError, match="has 1002 layers; an image may have 1000 at most"):
        dockerarchive.ancestry(images, ids[0])


NAMES = sorted(
    {"Cmd", "x"}
    | set(
        "schemaVersion mediaType config layers manifests annotations digest size platform".split()
    )
    | set("rootfs type diff_ids history empty_layer os architecture imageLayoutVersion".split())
    | set("Config RepoTags Layers LayerSources id parent container_config urls".split())
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from([2, A, B, ID, "layers", OCI_CONFIG, OCI_MANIFEST, LAYER["mediaType"], "../x"])
)
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6)
    ),
    max_leaves=12,
)


@st.composite
def _mutated(draw):
    """A valid document with a value inside it replaced, as text with some bytes changed."""
    name = draw(st.sampled_from(sorted(VALID)))
    document = json.loads(json.dumps(VALID[name]))
    place = document
    while isinstance(place, dict | list) and place:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if draw(st.booleans()):
            place[key] = draw(JSON)
            break
        place = place[key]
    text = bytearray(
        json.dumps(document, ensure_ascii=draw(st.booleans())).encode(errors="replace")
    )
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(text)))
        text[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return name, bytes(text)


def _only_a_value_or_an_error(name, data):
    try:
        PARSERS[name](data)
    except ArchiveError as error:
        assert str(error).isprintable() and len(str(error)) < 1000
    else:
        # Whoever reads the bytes again with the standard library meets no error.
        json.dumps(json.loads(data), allow_nan=False, ensure_ascii=False).encode()


@given(st.sampled_from(sorted(PARSERS)), JSON)
def test_any_json_is_a_value_or_one_clear_line(name, value):
    _only_a_value_or_an_error(name, json.dumps(value).encode())


@given(_mutated())
def test_any_damage_to_a_document_is_a_value_or_one_clear_line(mutated):
    _only_a_value_or_an_error(*mutated)


@given(st.sampled_from(sorted(PARSERS)), st.binary(max_size=60))
def test_any_bytes_are_a_value_or_one_clear_line(name, data):
    _only_a_value_or_an_error(name, data)


@given(_mutated())
def test_a_legacy_document_that_is_read_can_be_migrated_or_ends_in_one_line(mutated):
    try:
        image = _legacy(mutated[1])
        documents.parse_config("c", dockerarchive.migrated("j", mutated[1], [image], [A]))
    except ArchiveError as error:
        assert str(error).isprintable()
