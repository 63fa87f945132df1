"""Documents of archives with values in them replaced at random, and all digests right again.

So what is wrong gets past the digests, to whatever believes the documents. COWSHED_EXAMPLES=100000
makes a long run of it.
"""

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.errors import CowshedError
from imagegraph.store import Store
from oci.loading import load
from tests.conftest import require
from tests.oci.bundles import (
    BETTER,
    GOOD,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Layout,
    config,
    docker,
    index,
    legacy,
    sha256,
    written,
)
from tests.oci.refusing import Refusing
from tests.oci.test_hostile_documents import JSON
from tests.oci.test_stacks import EXAMPLES

LAYERS = GOOD, BETTER
CONFIG = json.loads(
    config(
        [sha256(each) for each in LAYERS],
        created="2026-01-01T00:00:00Z",
        author="me",
        config={"Env": ["A=b"], "Cmd": ["sh"], "Labels": {"a": "b"}, "User": "0", "Volumes": {}},
        history=[{"created_by": "one"}, {"created_by": "two"}, {"empty_layer": True}],
    )
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    require("root")
    with Store.init(str(tmp_path_factory.mktemp("fuzz") / "root"), backend="vfs") as opened:
        yield opened


@st.composite
def replaced(draw, document):
    """The document with one or two values somewhere inside it replaced, left out, or repeated."""
    document = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(0, 2))):
        place = document
        while isinstance(place, dict | list) and place:
            keys = sorted(place) if isinstance(place, dict) else range(len(place))
            key = draw(st.sampled_from(keys))
            match draw(st.sampled_from(["deeper", "deeper", "replace", "drop", "repeat"])):
                case "replace":
                    place[key] = draw(JSON)
                case "drop":
                    del place[key]
                case "repeat" if isinstance(place, list):
                    place.insert(key, place[key])
                case _:
                    place = place[key]
                    continue
            break
    return document


@st.composite
def archives(draw):
    """An archive in one of the three forms, some of whose documents were damaged."""
    match draw(st.sampled_from(["docker", "oci", "legacy"])):
        case "docker":
            document = json.dumps(draw(replaced(CONFIG))).encode()
            files = docker(*LAYERS, document=document)
            manifest = draw(replaced(json.loads(files["manifest.json"])))
            return {**files, "manifest.json": json.dumps(manifest).encode()}
        case "oci":
            return _layout(draw)
        case _:
            files = legacy(*LAYERS)
            for path in [path for path in files if path.endswith(("json", "repositories"))]:
                files[path] = json.dumps(draw(replaced(json.loads(files[path])))).encode()
            return files


def _layout(draw):
    layout = Layout()
    described = layout.image(
        [layout.add(each, OCI_LAYER) for each in LAYERS],
        json.dumps(draw(replaced(CONFIG))).encode(),
    )
    manifest = json.loads(list(layout.files.values())[-1])
    described = layout.add(json.dumps(draw(replaced(manifest))).encode(), OCI_MANIFEST)
    described["platform"] = {"os": "linux", "architecture": "amd64"}
    for _ in range(draw(st.integers(0, 2))):
        inner = draw(replaced(json.loads(index([described]))))
        described = layout.add(json.dumps(inner).encode(), OCI_INDEX)
        described["platform"] = {"os": "linux", "architecture": "amd64"}
    files = layout.index(described)
    top = draw(replaced(json.loads(files["index.json"])))
    return {**files, "index.json": json.dumps(top).encode()}


@EXAMPLES
@given(archives())
def test_an_archive_with_odd_documents_is_loaded_whole_or_not_at_all(
    store, tmp_path_factory, files
):
    refusing = Refusing(store, tmp_path_factory.getbasetemp())
    source = written(files, refusing.beside / "odd")
    try:
        for loaded in load(store, str(source)):
            assert store.image(loaded.image.id) == loaded.image
            with store.open_tree(loaded.image):
                pass
    except CowshedError as error:
        assert str(error).isprintable() and len(str(error)) < 10_000, error
    finally:
        refusing.clear()
    refusing.is_empty()
