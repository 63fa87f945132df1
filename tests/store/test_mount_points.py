"""Mount points in containers' trees: made where they are missing, and seen by nobody afterwards."""

import io
import os
import stat

import pytest

from imagegraph import listing, mount_points
from imagegraph.errors import NotFound
from imagegraph.model import Container, Image
from imagegraph.mount_points import DIRECTORY, FILE
from imagegraph.store import Store
from oci.rootfs import export_rootfs
from tests.store.prepared import USUAL, diff, prepare, tree_entries, tree_of
from tests.store.scenes import add_image, assert_sound, commit, document
from tests.trees import fill


@pytest.fixture
def image(store: Store) -> Image:
    """An image with one of everything, in which all times are odd."""

    def write(tree: str) -> int:
        fill(tree)
        return 0

    return store.add_image(write, document())


@pytest.fixture
def container(store: Store, image: Image) -> Container:
    return store.create(image, name="web")[0]


def test_what_is_made_is_seen_neither_in_a_diff_nor_in_a_commit_nor_in_an_export(
    store: Store, image: Image, container: Container
) -> None:
    before = tree_entries(store, container)
    assert prepare(store, container, USUAL) == [path for path, _ in USUAL]
    with tree_of(store, container) as (tree, _):
        for path, kind in USUAL:
            status = os.lstat(f"{tree}{path}")
            assert stat.S_ISDIR(status.st_mode) == (kind == DIRECTORY)
            assert stat.S_IMODE(status.st_mode) == (0o755 if kind == DIRECTORY else 0o644)
            assert (status.st_uid, status.st_gid) == (0, 0)
    assert diff(store, container) == []
    with store.compared(container) as compared:
        assert list(compared.changes) == []
    assert listing.container_size(store, container) == 0
    made = commit(store, container)
    assert tree_entries(store, made) == before
    assert diff(store, made) == []
    squashed, _ = store.commit(container, squash=True)
    assert tree_entries(store, squashed) == before
    assert exported(store, container) == exported(store, image)
    # The container itself still has them, and another start finds nothing missing.
    assert prepare(store, container, USUAL) == [path for path, _ in USUAL]
    assert diff(store, container) == []
    assert_sound(store)


def exported(store: Store, thing: Image | Container) -> bytes:
    out = io.BytesIO()
    export_rootfs(store, thing, out)
    return out.getvalue()


def test_directories_have_the_times_that_they_had_to_the_nanosecond(
    store: Store, container: Container
) -> None:
    def times() -> list[tuple[int, int]]:
        with tree_of(store, container) as (tree, _):
            found = [os.stat(tree / path) for path in (".", "etc", "var/empty")]
        return [(status.st_atime_ns, status.st_mtime_ns) for status in found]

    with tree_of(store, container) as (tree, _):
        for number, path in enumerate((".", "etc", "var/empty")):
            os.utime(tree / path, ns=(1_234_567_891 + number, 987_654_321_987 + number))
    before = times()
    prepare(store, container, [*USUAL, ("/var/empty/x", DIRECTORY)])
    assert times() == before
    made = commit(store, container)
    with store.open_tree(made) as path:
        assert os.stat(path).st_mtime_ns == before[0][1]
        assert os.stat(f"{path}/etc").st_mtime_ns == before[1][1]
    assert times() == before


def test_what_the_user_made_of_them_is_shown_and_committed(
    store: Store, container: Container
) -> None:
    prepare(store, container, [*USUAL, ("/a", FILE), ("/b", FILE), ("/c", FILE), ("/d", FILE)])
    with tree_of(store, container) as (tree, _):
        (tree / "etc/hosts").write_text("127.0.0.1 localhost\n")
        (tree / "etc/hostname").chmod(0o600)
        (tree / "srv/data/mine").touch()
        (tree / "sys").rmdir()
        (tree / "sys").symlink_to("proc")
        os.chown(tree / "a", 1, 0)
        os.setxattr(tree / "b", "user.note", b"mine")
        os.link(tree / "c", tree / "another")
    shown = [path for path, kind in diff(store, container) if kind == "added"]
    assert shown == [
        b"a", b"another", b"b", b"c", b"etc/hostname", b"etc/hosts", b"srv", b"srv/data",
        b"srv/data/mine", b"sys",
    ]  # fmt: skip
    made = commit(store, container)
    assert diff(store, made) == diff(store, container)
    with store.open_tree(made) as path:
        assert not os.path.lexists(f"{path}/srv/data/deep")
        assert not os.path.lexists(f"{path}/proc") and not os.path.lexists(f"{path}/d")
        assert os.lstat(f"{path}/c").st_nlink == 2


def test_what_was_removed_or_replaced_above_them_is_shown_as_it_is(
    store: Store, container: Container
) -> None:
    prepare(store, container, USUAL)
    with tree_of(store, container) as (tree, _):
        (tree / "srv").rename(tree / "moved")
        (tree / "srv").symlink_to("moved")
        (tree / "etc/hosts").unlink()
    found = dict(diff(store, container))
    added = {path for path, kind in found.items() if kind == "added"}
    assert added == {b"moved", b"moved/data", b"moved/data/deep", b"srv"}
    made = commit(store, container)
    assert diff(store, made) == diff(store, container)


def test_a_container_of_the_committed_image_has_mount_points_of_its_own(
    store: Store, container: Container
) -> None:
    prepare(store, container, USUAL)
    [child] = store.create(commit(store, container))
    assert store.graph.mount_points(child.id) == []
    prepare(store, child, USUAL)
    assert diff(store, child) == []
    assert store.graph.mount_points(child.id) == store.graph.mount_points(container.id) != []
    store.remove_container(container)
    assert store.graph.mount_points(container.id) == []


def test_compared_with_an_image_that_has_the_file_it_is_a_change(
    store: Store, container: Container
) -> None:
    other = add_image(store, {"etc/hosts": b"127.0.0.1 localhost"})
    prepare(store, container, USUAL)
    found = {change.path: change.kind for change in store.diff(container, other)}
    assert found[b"etc/hosts"] == "modified" and b"etc/hostname" not in found


def test_an_empty_file_of_the_image_is_no_mount_point(store: Store) -> None:
    image = add_image(store, {"etc/hosts": b"", "run/x": b"1"})
    [container] = store.create(image)
    prepare(store, container, [("/etc/hosts", FILE), ("/run", DIRECTORY)])
    assert store.graph.mount_points(container.id) == []
    assert tree_entries(store, commit(store, container)) == tree_entries(store, container)


def test_what_is_recorded_and_was_never_made_harms_nothing(
    store: Store, container: Container
) -> None:
    with store.graph.writing():
        store.graph.add_mount_points(container.id, [(b"etc/gone", FILE), (b"x/y", DIRECTORY)])
    before = tree_entries(store, container)
    assert diff(store, container) == []
    assert tree_entries(store, commit(store, container)) == before
    prepare(store, container, [("/x/y", FILE)])
    assert diff(store, container) == []


def test_rows_are_there_before_anything_is_made(
    store: Store, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "mkdir", crash)
        with pytest.raises(KeyboardInterrupt):
            prepare(store, container, USUAL)
    paths = [path for path, _ in store.graph.mount_points(container.id)]
    assert paths == sorted(
        [b"proc", b"sys", b"dev", b"etc/hosts", b"etc/hostname", b"etc/resolv.conf", b"srv",
         b"srv/data", b"srv/data/deep"]
    )  # fmt: skip
    assert diff(store, container) == []


def test_nothing_is_written_when_nothing_is_missing(store: Store, container: Container) -> None:
    with tree_of(store, container) as (tree, fd):
        before = os.stat(tree / "etc").st_ctime_ns
        found = mount_points.prepare(
            store, container, fd, [("/etc/passwd", FILE), ("/", DIRECTORY)]
        )
        assert found == ["/etc/passwd", "/"]
        assert os.stat(tree / "etc").st_ctime_ns == before


def test_mount_points_of_a_container_that_is_gone_are_refused(
    store: Store, container: Container
) -> None:
    with tree_of(store, container) as (_, fd):
        with store.graph.writing():
            store.graph.drop("containers", container.id)
        with pytest.raises(NotFound, match="removed meanwhile"):
            mount_points.prepare(store, container, fd, USUAL)


def test_a_container_first_started_during_its_commit_leaves_no_trace_in_the_image(
    store: Store, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree_entries(store, container)
    snapshot = store.backend.snapshot
    calls: list[int] = []

    def late(*arguments: object) -> list[str]:
        if not calls:
            prepare(store, container, USUAL)
        calls.append(len(arguments))
        return snapshot(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store.backend, "snapshot", late)
    assert tree_entries(store, commit(store, container)) == before
    assert len(calls) == 2
    assert_sound(store)
