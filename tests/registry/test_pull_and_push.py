"""Images between stores by way of Docker's registry, well and ill served."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backends.errors import CowshedError
from imagegraph.check import check
from imagegraph.model import Image, Manifest
from imagegraph.reference import Reference, parse
from imagegraph.store import Store
from oci.documents import (
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Platform,
    dump_index,
    parse_manifest,
)
from oci.identity import identify
from oci.pulling import Pulled, pull
from oci.pushing import Packed, push
from oci.registry.client import Registry
from tests.registry.servers import Answer, Asked, FaultProxy, Served, honest
from tests.store.scenes import add_image, commit, contents, write

LAYERS = 4


@pytest.fixture
def name(tmp_path: Path) -> str:
    """A repository that no other test has."""
    return tmp_path.name.lower().replace("_", "-").strip("-")[:60]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Store]:
    with Store.init(str(tmp_path / "here"), backend="vfs") as store:
        yield store


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Store]:
    with Store.init(str(tmp_path / "there"), backend="vfs") as store:
        yield store


@pytest.fixture
def image(here: Store) -> Image:
    """An image of LAYERS layers, most of them larger than a connection brings at once."""
    image = add_image(here, {"base": os.urandom(300_000)}, "base:1")
    for number in range(1, LAYERS):
        [container] = here.create(image)
        write(here, container, {f"layer-{number}": os.urandom(100_000)})
        image = commit(here, container, "grown:1")
        here.remove_container(container)
    return image


def to(served: Served | FaultProxy, repository: str, tag: str = "1") -> Reference:
    return parse(f"{served.name}/{repository}:{tag}")


def assert_nothing_came(store: Store) -> None:
    assert store.graph.images() == [] and store.graph.undone() == []
    assert list(store.backend.volumes()) == [] and check(store) == []
    assert not any(Path(store.root, "splits").glob("*"))


def test_what_is_pushed_is_pulled_and_pushed_on_with_the_same_digests(
    here: Store, there: Store, image: Image, plain: Served, name: str
) -> None:
    with Registry(plain.name) as registry:
        digest = push(here, registry, image, to(plain, name))
        pulled = pull(there, registry, to(plain, name))
        assert (pulled.digest, pulled.new) == (digest, True)
        assert pulled.image.id == identify(here, image).digest.removeprefix("sha256:")
        assert contents(there, pulled.image) == contents(here, image)
        assert push(there, registry, pulled.image, to(plain, f"{name}/again")) == digest
        assert pull(there, registry, to(plain, f"{name}/again")) == Pulled(
            pulled.image, digest, new=False
        )
    assert there.image(f"{plain.name}/{name}@{digest}") == pulled.image
    assert check(here) == check(there) == []


@pytest.mark.parametrize("packed", [Packed("gzip", 0), Packed("gzip"), Packed("zstd", 9)])
def test_layers_are_compressed_the_same_wherever_that_is_done(
    here: Store, there: Store, image: Image, plain: Served, name: str, packed: Packed
) -> None:
    with Registry(plain.name) as registry:
        digest = push(here, registry, image, to(plain, name), packed=packed)
        manifest = registry.manifest(name, digest, {OCI_MANIFEST})
        layers = parse_manifest("it", manifest.data).layers
        assert {layer.media_type.rpartition("+")[2] for layer in layers} == {packed.kind}
        with here.graph.writing():
            here.graph._rows("DELETE FROM blobs WHERE compression != 'none'")
            here.graph._rows("DELETE FROM manifests")
        assert push(here, registry, image, to(plain, name, "2"), packed=packed) == digest
        pull(there, registry, to(plain, name, "2"))


def test_only_what_the_registry_lacks_is_sent(
    here: Store, image: Image, plain: Served, proxy: FaultProxy, name: str
) -> None:
    with Registry(proxy.name) as registry:
        push(here, registry, image, to(proxy, name))
        proxy.asked.clear()
        push(here, registry, image, to(proxy, name, "2"))
        assert {each.method for each in proxy.asked} <= {"HEAD", "GET", "PUT"}
        assert proxy.count("PUT", "/blobs/") == 0
        push(here, registry, image, to(proxy, f"{name}/other"))
        posted = [each.path for each in proxy.asked if each.method == "POST"]
        assert sum("mount=" in path for path in posted) == LAYERS
        [container] = here.create(image)
        write(here, container, {"more": b"m"})
        more = commit(here, container)
        proxy.asked.clear()
        push(here, registry, more, to(proxy, name, "3"))
        assert proxy.count("PATCH", "/blobs/") == 1


def test_layers_that_are_here_are_not_fetched(
    here: Store, there: Store, image: Image, proxy: FaultProxy, name: str
) -> None:
    with Registry(proxy.name) as registry:
        push(here, registry, image, to(proxy, name))
        [container] = here.create(image)
        write(here, container, {"more": b"m"})
        push(here, registry, commit(here, container), to(proxy, name, "2"))
        pull(there, registry, to(proxy, name))
        proxy.asked.clear()
        pull(there, registry, to(proxy, name, "2"))
        assert sum(each.is_blob() for each in proxy.asked) == 2  # The config, and one layer.
        proxy.asked.clear()
        assert not pull(there, registry, to(proxy, name, "2")).new
        assert len(proxy.asked) == 1


def test_of_an_index_the_platform_that_is_wanted_is_taken(
    here: Store, there: Store, plain: Served, name: str
) -> None:
    with Registry(plain.name) as registry:
        entries = []
        for architecture in ("amd64", "s390x"):
            made = add_image(here, {"of": architecture.encode()}, f"{architecture}:1")
            digest = push(here, registry, made, to(plain, name, architecture))
            data = registry.manifest(name, digest, {OCI_MANIFEST}).data
            platform = Platform(os="linux", architecture=architecture)
            entries.append(
                Descriptor(
                    media_type=OCI_MANIFEST, digest=digest, size=len(data), platform=platform
                )
            )
        index = dump_index(entries)
        registry.put_manifest(name, "1", index, OCI_INDEX)
        wanted = Platform(os="linux", architecture="s390x")
        pulled = pull(there, registry, to(plain, name), platform=wanted)
        assert contents(there, pulled.image) == {"of": b"s390x"}
        assert there.image(f"{plain.name}/{name}@{pulled.digest}") == pulled.image
        with pytest.raises(CowshedError, match="there is no image for linux/arm64"):
            pull(
                there,
                registry,
                to(plain, name),
                platform=Platform(os="linux", architecture="arm64"),
            )


def test_eight_that_pull_at_once_apply_each_layer_once(
    here: Store, tmp_path: Path, image: Image, plain: Served, name: str
) -> None:
    with Registry(plain.name) as registry:
        push(here, registry, image, to(plain, name))
        [container] = here.create(image)
        write(here, container, {"more": b"m"})
        push(here, registry, commit(here, container), to(plain, name, "2"))
    root = str(tmp_path / "shared")
    Store.init(root, backend="vfs").close()

    def bring(number: int) -> str:
        with Store.open(root) as store, Registry(plain.name) as registry:
            return pull(store, registry, to(plain, name, str(1 + number % 2))).image.id

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(bring, range(8)))
    assert len(set(ids)) == 2
    with Store.open(root) as store:
        assert len(store.graph.layers()) == LAYERS + 1
        assert len(list(store.backend.volumes())) == LAYERS + 1
        assert check(store) == [] and store.graph.undone() == []


def damaged(asked: Asked) -> Answer:
    answer = asked.forward()
    return answer._replace(body=answer.body[:-1] + b"!") if asked.is_blob() else answer


def a_page(asked: Asked) -> Answer:
    return asked.forward().holding(Content_Type="text/html")


def test_what_its_registry_calls_no_image_is_none(
    here: Store,
    there: Store,
    image: Image,
    plain: Served,
    proxy: FaultProxy,
    connect: Callable[..., Registry],
    name: str,
) -> None:
    with Registry(plain.name) as registry:
        push(here, registry, image, to(plain, name))
    proxy.behave = lambda asked: a_page(asked) if "/manifests/" in asked.path else asked.forward()
    with pytest.raises(CowshedError, match="text/html"):
        pull(there, connect(proxy.name), to(proxy, name))
    assert_nothing_came(there)


def test_an_image_that_is_removed_while_it_is_pushed_or_pulled_is_no_harm(
    here: Store, there: Store, image: Image, plain: Served, name: str
) -> None:
    with Registry(plain.name) as registry:
        put_manifest = registry.put_manifest

        def removing(*arguments: str) -> str:
            here.remove_image("grown:1")
            return put_manifest(*arguments)

        registry.put_manifest = removing
        push(here, registry, image, to(plain, name))
        with there.graph.writing():
            there.graph.add_manifest("0" * 64, Manifest("a/b", "sha256:1", "x", None))
            there.graph.add_place("0" * 64, "sha256:1", "a/b")
        assert there.graph.repository_digests() == {} and there.graph.places("sha256:1") == []
    assert check(here) == []


def missing(asked: Asked) -> Answer:
    return Answer(404, {}) if asked.is_blob() else asked.forward()


def longer(asked: Asked) -> Answer:
    answer = asked.forward()
    return answer._replace(body=answer.body + b"more") if asked.is_blob() else answer


def refusing(asked: Asked) -> Answer:
    return Answer(403, {}) if asked.is_blob() else asked.forward()


@pytest.mark.parametrize("fault", [damaged, missing, longer, refusing])
@pytest.mark.parametrize("which", [0, 1, LAYERS])
def test_a_pull_that_fails_says_why_in_a_line_and_leaves_nothing(
    here: Store,
    there: Store,
    image: Image,
    plain: Served,
    proxy: FaultProxy,
    connect: Callable[..., Registry],
    name: str,
    fault: Callable[[Asked], Answer],
    which: int,
) -> None:
    """The blob that is faulty: the config, the lowest layer, the highest one."""
    with Registry(plain.name) as registry:
        digest = push(here, registry, image, to(plain, name))
        manifest = parse_manifest("it", registry.manifest(name, digest, {OCI_MANIFEST}).data)
    blobs = [manifest.config.digest, *(layer.digest for layer in manifest.layers)]
    faulty = blobs[which]
    proxy.behave = lambda asked: fault(asked) if faulty in asked.path else asked.forward()
    with pytest.raises(CowshedError) as told:
        pull(there, connect(proxy.name), to(proxy, name))
    assert "\n" not in str(told.value) and len(str(told.value)) < 600
    assert_nothing_came(there)
    proxy.behave = honest
    pull(there, connect(proxy.name), to(proxy, name))
    assert check(there) == []


def test_connections_that_break_are_taken_up_where_they_broke(
    here: Store,
    there: Store,
    image: Image,
    plain: Served,
    proxy: FaultProxy,
    connect: Callable[..., Registry],
    name: str,
) -> None:
    with Registry(plain.name) as registry:
        push(here, registry, image, to(plain, name))
    proxy.behave = lambda asked: (
        asked.forward()._replace(cut=40_000) if asked.is_blob() else asked.forward()
    )
    pulled = pull(there, connect(proxy.name), to(proxy, name))
    assert contents(there, pulled.image) == contents(here, image)
    assert proxy.count("GET", "/blobs/") > 10


def test_a_push_that_breaks_off_is_made_again_whole(
    here: Store,
    there: Store,
    image: Image,
    proxy: FaultProxy,
    connect: Callable[..., Registry],
    name: str,
) -> None:
    failures = [503, 500, 429]

    def failing(asked: Asked) -> Answer:
        if asked.method in ("PATCH", "PUT") and "/uploads/" in asked.path and failures:
            return Answer(failures.pop(), {})
        return asked.forward()

    proxy.behave = failing
    registry = connect(proxy.name)
    push(here, registry, image, to(proxy, name))
    assert not failures
    assert contents(there, pull(there, registry, to(proxy, name)).image) == contents(here, image)


def test_a_layer_that_was_changed_is_not_pushed(
    here: Store, image: Image, plain: Served, name: str
) -> None:
    identify(here, image)
    tree = Path(here.root, "pool/layers", image.layer)
    (tree / f"layer-{LAYERS - 1}").write_bytes(b"x" * 100_000)
    with Registry(plain.name) as registry, pytest.raises(CowshedError):
        push(here, registry, image, to(plain, name))
    with Registry(plain.name) as registry, pytest.raises(CowshedError):
        registry.manifest(name, "1", {OCI_MANIFEST})
