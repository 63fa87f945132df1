"""Images in a store: how they are found, named, removed and pruned."""

import json

import pytest

from imagegraph import listing, removal
from imagegraph.errors import Ambiguous, Conflict, InvalidReference, NotFound
from imagegraph.model import Image, Removed
from imagegraph.reference import parse
from imagegraph.store import Store
from tests.store.conftest import WITHOUT_ZFS
from tests.store.scenes import (
    add_image,
    assert_sound,
    commit,
    contents,
    tags,
    write,
)


def same_layer(store: Store, image: Image, id: str, digest: str | None = None) -> Image:
    """Another image on the layer of `image`, as a pull of the same files would make."""
    other = image._replace(id=id, digest=digest)
    with store.graph.writing():
        store.graph.add_image(other, "docker")
    return other


def kinds(removed: list[Removed]) -> list[str]:
    return [thing.kind for thing in removed]


# Looking up


@WITHOUT_ZFS
def test_an_image_is_found_by_its_tag_and_latest_is_the_default(store: Store) -> None:
    image = add_image(store, {"a": b"1"}, "base")
    assert store.image("base") == store.image("base:latest") == image
    assert store.image("docker.io/library/base:latest") == image


@WITHOUT_ZFS
def test_a_tag_is_looked_for_before_an_id(store: Store) -> None:
    image, other = add_image(store, {"a": b"1"}), add_image(store, {"a": b"2"})
    assert store.image(other.id[:8]) == other
    store.tag(image, parse(f"{other.id[:8]}:latest"))
    assert store.image(other.id[:8]) == image


@WITHOUT_ZFS
def test_an_image_is_found_by_any_unique_prefix_of_its_id(store: Store) -> None:
    image = add_image(store, {"a": b"1"})
    for name in (image.id, image.id[:12], f"sha256:{image.id}", f"sha256:{image.id[:12]}"):
        assert store.image(name) == image


@WITHOUT_ZFS
def test_an_image_is_found_by_its_config_digest_in_its_repository_only(store: Store) -> None:
    image = add_image(store, {"a": b"1"}, "base:1")
    digest = "sha256:" + "5" * 64
    pulled = same_layer(store, image, "4" * 64, digest)
    store.tag(pulled, parse("pulled:1"))
    assert store.image(f"pulled@{digest}") == store.image(digest) == pulled
    with pytest.raises(NotFound):
        store.image(f"base@{digest}")


@WITHOUT_ZFS
def test_an_ambiguous_prefix_lists_what_it_matches(store: Store) -> None:
    image = add_image(store, {"a": b"1"})
    first = same_layer(store, image, "abcd" + "1" * 60)
    second = same_layer(store, image, "abcd" + "2" * 60)
    with pytest.raises(Ambiguous) as caught:
        store.image("abcd")
    assert first.id[:12] in str(caught.value) and second.id[:12] in str(caught.value)
    assert store.image("abcd1") == first
    with pytest.raises(Ambiguous):
        store.remove_image("abcd", force=True)
    assert len(store.graph.images()) == 3


@WITHOUT_ZFS
@pytest.mark.parametrize("name", ["nothing", "nothing:1", "0" * 64, "0000", "x@sha256:" + "0" * 64])
def test_what_is_not_there_is_not_found(store: Store, name: str) -> None:
    with pytest.raises(NotFound, match="no image is called"):
        store.image(name)


@WITHOUT_ZFS
@pytest.mark.parametrize("name", ["", "UPPER", "a b", "-x", "a:", "a:b:c", "x@", "../x"])
def test_what_is_no_reference_is_refused(store: Store, name: str) -> None:
    with pytest.raises(InvalidReference):
        store.image(name)


# Tags


@WITHOUT_ZFS
def test_retagging_leaves_the_old_image_dangling(store: Store) -> None:
    old, new = add_image(store, {"a": b"1"}, "base:1"), add_image(store, {"a": b"2"}, "base:1")
    assert store.image("base:1") == new
    dangling = {row.image.id: row.dangling for row in listing.images(store)}
    assert dangling == {old.id: True, new.id: False}


@WITHOUT_ZFS
def test_a_tag_without_a_name_for_it_is_latest_everywhere(store: Store) -> None:
    image = add_image(store, {"a": b"1"})
    store.tag(image, parse("base"))
    assert tags(store) == {"base:latest": image.id}
    [container] = store.create(image)
    committed, _ = store.commit(container, parse("base"))
    assert tags(store) == {"base:latest": committed.id}


@WITHOUT_ZFS
def test_an_image_that_was_removed_cannot_be_tagged(store: Store) -> None:
    image = add_image(store, {"a": b"1"}, "base:1")
    store.remove_image("base:1")
    with pytest.raises(NotFound, match="removed meanwhile"):
        store.tag(image, parse("again:1"))
    assert tags(store) == {}


# rmi


@WITHOUT_ZFS
def test_rmi_of_one_of_two_tags_only_untags(store: Store) -> None:
    image = add_image(store, {"a": b"1"}, "base:1")
    store.tag(image, parse("base:2"))
    assert store.remove_image("base:1") == [Removed("untagged", "base:1")]
    assert store.image("base:2") == image


def test_rmi_of_the_last_tag_removes_image_and_layer(store: Store) -> None:
    image = add_image(store, {"a": b"1"}, "base:1")
    assert store.remove_image("base:1") == [
        Removed("untagged", "base:1"),
        Removed("image", image.id),
        Removed("layer", image.layer),
    ]
    assert store.graph.images() == [] and store.graph.layers() == []
    assert_sound(store)


def test_rmi_of_an_image_with_children_makes_it_intermediate(store: Store) -> None:
    base = add_image(store, {"a": b"1"}, "base:1")
    [container] = store.create(base)
    child = commit(store, container, "child:1")
    store.remove_container(container)
    assert kinds(store.remove_image("base:1")) == ["untagged"]
    assert [row.image.id for row in listing.images(store)] == [child.id]
    assert {row.image.id for row in listing.images(store, every=True)} == {base.id, child.id}
    assert contents(store, child) == {"a": b"1"}


def test_rmi_of_the_last_child_takes_its_untagged_ancestors_along(store: Store) -> None:
    base = add_image(store, {"a": b"1"}, "base:1")
    [container] = store.create(base)
    middle = commit(store, container, "middle:1")
    [above] = store.create(middle)
    top = commit(store, above, "top:1")
    for each in (container, above):
        store.remove_container(each)
    store.remove_image("middle:1")
    removed = store.remove_image("top:1")
    assert [thing.name for thing in removed] == [
        "top:1", top.id, middle.id, top.layer, middle.layer
    ]  # fmt: skip
    assert store.graph.images() == [base]
    assert_sound(store)


@WITHOUT_ZFS
def test_rmi_without_prune_keeps_the_ancestors(store: Store) -> None:
    base = add_image(store, {"a": b"1"}, "base:1")
    [container] = store.create(base)
    child = commit(store, container, "child:1")
    store.remove_container(container)
    store.remove_image("base:1")
    removed = store.remove_image("child:1", prune=False)
    assert [thing.name for thing in removed] == ["child:1", child.id, child.layer]
    assert store.graph.images() == [base]
    assert contents(store, base) == {"a": b"1"}


@WITHOUT_ZFS
def test_rmi_by_id_of_an_untagged_image_with_children_is_refused(store: Store) -> None:
    base = add_image(store, {"a": b"1"})
    [container] = store.create(base)
    child = commit(store, container)
    store.remove_container(container)
    for force in (False, True):
        with pytest.raises(Conflict, match=child.id[:12]):
            store.remove_image(base.id, force=force)


def test_rmi_of_the_last_tag_is_refused_while_a_container_is_cloned_from_it(store: Store) -> None:
    image = add_image(store, {"a": b"1"}, "base:1")
    store.create(image, name="user")
    for name in ("base:1", image.id[:12]):
        with pytest.raises(Conflict, match="user"):
            store.remove_image(name)
    assert store.image("base:1") == image


@WITHOUT_ZFS
def test_forced_rmi_untags_an_image_in_use_and_keeps_it(store: Store) -> None:
    image = add_image(store, {"a": b"1"}, "base:1")
    [container] = store.create(image, name="user")
    assert kinds(store.remove_image("base:1", force=True)) == ["untagged"]
    assert store.graph.images() == [image]
    with pytest.raises(Conflict, match="user"):
        store.remove_image(image.id, force=True)
    assert contents(store, container) == {"a": b"1"}
    store.remove_container(container)
    assert kinds(store.remove_image(image.id)) == ["image", "layer"]
    assert_sound(store)


@WITHOUT_ZFS
def test_rmi_by_id_with_tags_in_several_repositories_needs_force(store: Store) -> None:
    image = add_image(store, {"a": b"1"}, "one:1")
    store.tag(image, parse("two:1"))
    with pytest.raises(Conflict, match=r"one:1, two:1.*-f"):
        store.remove_image(image.id)
    removed = store.remove_image(image.id, force=True)
    assert kinds(removed) == ["untagged", "untagged", "image", "layer"]


@WITHOUT_ZFS
def test_rmi_by_id_with_several_tags_in_one_repository_needs_no_force(store: Store) -> None:
    image = add_image(store, {"a": b"1"}, "one:1")
    store.tag(image, parse("one:2"))
    assert kinds(store.remove_image(image.id))[-2:] == ["image", "layer"]


def test_a_layer_stays_while_another_image_has_it(store: Store) -> None:
    image = add_image(store, {"a": b"1"}, "base:1")
    other = same_layer(store, image, "7" * 64)
    store.tag(other, parse("other:1"))
    assert kinds(store.remove_image("base:1")) == ["untagged", "image"]
    assert contents(store, other) == {"a": b"1"}
    [found] = store.backend.volumes()
    assert [listed["id"] for listed in json.loads(found.record or b"")["images"]] == [other.id]


def test_a_container_lives_on_when_a_sibling_image_of_its_commit_goes(store: Store) -> None:
    [container] = store.create(add_image(store, {"a": b"1"}, "base:1"))
    write(store, container, {"b": b"2"})
    commit(store, container, "child:1")
    store.remove_image("child:1")
    assert contents(store, container) == {"a": b"1", "b": b"2"}
    assert_sound(store)


# prune


def test_prune_removes_containers_and_dangling_images_only(store: Store) -> None:
    base = add_image(store, {"a": b"1"}, "base:1")
    [container] = store.create(base)
    commit(store, container)
    removed = removal.prune(store)
    assert kinds(removed) == ["container", "image", "layer"]
    assert store.graph.images() == [base] and store.graph.containers() == []
    assert_sound(store)


@WITHOUT_ZFS
def test_prune_of_the_unused_takes_tagged_images_too(store: Store) -> None:
    add_image(store, {"a": b"1"}, "base:1")
    removal.prune(store, unused=True)
    assert store.graph.images() == [] and tags(store) == {}
    assert_sound(store)


def test_prune_takes_a_whole_forest_of_untagged_images(store: Store) -> None:
    image = add_image(store, {"a": b"1"})
    for number in range(4):
        [container] = store.create(image)
        write(store, container, {"n": b"%d" % number})
        image = commit(store, container)
    removal.prune(store)
    assert store.graph.layers() == []
    assert_sound(store)


def test_prune_leaves_what_is_mounted_or_not_wanted(store: Store) -> None:
    base = add_image(store, {"a": b"1"}, "base:1")
    [mounted], [spared] = store.create(base, name="mounted"), store.create(base, name="spared")
    from imagegraph import mounting

    mounting.mount(store, mounted)
    try:
        assert removal.prune(store, wanted=lambda thing: thing.id != spared.id) == []
    finally:
        mounting.unmount(store, mounted)
    assert kinds(removal.prune(store)) == ["container", "container"]


def test_prune_survives_what_is_in_use_and_names_it(snapshotting: Store) -> None:
    store = snapshotting
    busy, free = add_image(store, {"a": b"1"}), add_image(store, {"a": b"2"})
    [container] = store.create(add_image(store, {"a": b"3"}, "base:1"), name="used")
    with store.open_tree(busy) as layer, open(f"{layer}/a") as _:
        with store.open_tree(container) as tree, open(f"{tree}/a") as _:
            removed = removal.prune(store)
    assert [thing.kind for thing in removed].count("busy") == 2
    assert Removed("layer", free.layer) in removed
    assert store.container("used") == container
    removal.prune(store)
    assert_sound(store)


def test_rmi_of_an_image_whose_layer_is_in_use_says_who_and_the_next_one_ends_it(
    snapshotting: Store,
) -> None:
    store = snapshotting
    image = add_image(store, {"a": b"1"}, "base:1")
    with store.open_tree(image) as tree, open(f"{tree}/a") as _:
        with pytest.raises(Conflict, match=rf"layers/{image.layer[:12]}.*has a file open in it"):
            store.remove_image("base:1")
        assert store.graph.images() == [] and store.graph.layers() == []
        assert store.reap() == []
    assert store.reap() == [Removed("layer", image.layer)]
    assert_sound(store)


# Sizes and records


def test_a_layer_counts_the_files_that_it_adds_or_changes(store: Store) -> None:
    base = add_image(store, {"a": b"x" * 1000, "b": b"y" * 10}, "base:1")
    [container] = store.create(base)
    write(store, container, {"b": b"z" * 20, "c": b"w" * 300})
    child = commit(store, container, "child:1")
    sizes = {row.image.id: row.size for row in listing.images(store)}
    assert sizes == {base.id: 1010, child.id: 1330}
    assert listing.container_size(store, container) == 320
    assert [entry.size for entry in listing.history(store, child)] == [320, 1010]


def test_each_volume_has_a_record_that_tells_all_of_it(store: Store) -> None:
    base = add_image(store, {"a": b"1"}, "base:1", Cmd=["sh"])
    [container] = store.create(base, name="one", options={"Config": {"Env": ["A=b"]}})
    child = commit(store, container, "child:1")
    store.tag(child, parse("child:2"))
    store.tag(child, parse("base:1"))
    store.rename(container, "two")
    found = {volume.id: json.loads(record or b"") for volume, record, _ in store.backend.volumes()}
    assert found[container.id] == {
        "kind": "container",
        **container._replace(name="two")._asdict(),
    }
    for image, parent, named in ((base, None, []), (child, base, ["base:1", "child:1", "child:2"])):
        record = found[image.layer]
        assert (record["kind"], record["id"]) == ("layer", image.layer)
        assert record["parent"] == (parent and parent.layer)
        [listed] = record["images"]
        assert listed["id"] == image.id and listed["parent"] == (parent and parent.id)
        assert listed["config"] == json.loads(image.config)
        assert listed["tags"] == named
        assert listed["created"] == image.created
