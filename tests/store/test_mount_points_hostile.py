"""Mount points in trees that lead elsewhere, stand in the way, or change meanwhile."""

import contextlib
import os
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from imagegraph import mount_points
from imagegraph.errors import Conflict
from imagegraph.model import Container
from imagegraph.mount_points import DIRECTORY, FILE
from imagegraph.store import Store
from tests.edits import STEPS
from tests.store.conftest import WITHOUT_ZFS
from tests.store.prepared import diff, prepare, tree_entries, tree_of
from tests.store.scenes import add_image, document
from tests.trees import fill, posix_acl

pytestmark = WITHOUT_ZFS


@pytest.fixture
def container(store: Store) -> Container:
    """A container of an image with one of everything."""

    def write(tree: str) -> int:
        fill(tree)
        return 0

    return store.create(store.add_image(write, document()), name="web")[0]


LINKS = {
    "absolute": ("/etc/hosts", "/etc/passwd"),
    "climbing": ("/etc/hosts", "../../../../../../etc/passwd"),
    "to a directory of the host": ("/etc", "/var/tmp"),
}


@pytest.mark.parametrize(("link", "target"), LINKS.values(), ids=list(LINKS))
def test_a_link_that_leads_out_leads_to_a_place_inside(
    store: Store, link: str, target: str
) -> None:
    outside = sorted(os.listdir("/var/tmp")), Path("/etc/passwd").read_bytes()
    times = os.stat("/etc/passwd"), os.stat("/etc"), os.stat("/var/tmp")
    [container] = store.create(add_image(store, {"etc/old" if link != "/etc" else "old": b"1"}))
    with tree_of(store, container) as (tree, _):
        os.symlink(target, f"{tree}{link}")
    before = diff(store, container)
    [real] = prepare(store, container, [("/etc/hosts", FILE)])
    inside = "/" + target.replace("../", "").lstrip("/")
    assert real == (inside if link != "/etc" else "/var/tmp/hosts")
    with tree_of(store, container) as (tree, _):
        assert stat.S_ISREG(os.lstat(f"{tree}{real}").st_mode)
    assert diff(store, container) == before
    assert (sorted(os.listdir("/var/tmp")), Path("/etc/passwd").read_bytes()) == outside
    now = os.stat("/etc/passwd"), os.stat("/etc"), os.stat("/var/tmp")
    assert [each.st_mtime_ns for each in now] == [each.st_mtime_ns for each in times]


def test_links_are_followed_as_in_the_container(store: Store) -> None:
    [container] = store.create(add_image(store, {"var/etc/old": b"1"}))
    with tree_of(store, container) as (tree, _):
        (tree / "etc").symlink_to("/var/etc")
        (tree / "var/etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
        (tree / "proc").symlink_to("p")
        (tree / "p").symlink_to("///var/./../var/proc")
    before = diff(store, container)
    wanted = [("/etc/resolv.conf", FILE), ("/proc", DIRECTORY), ("no/such/../x", DIRECTORY)]
    real = ["/var/run/systemd/resolve/stub-resolv.conf", "/var/proc", "/no/x"]
    assert prepare(store, container, wanted) == real
    assert diff(store, container) == before
    with tree_of(store, container) as (tree, _):
        assert not (tree / "no/such").exists()
        assert stat.S_IMODE((tree / "var/run/systemd").stat().st_mode) == 0o755


def _loop(tree: Path) -> None:
    (tree / "etc/hosts").symlink_to("self")
    (tree / "etc/self").symlink_to("/etc/hosts")


def _file_above(tree: Path) -> None:
    (tree / "etc").rmdir()
    (tree / "etc").write_text("no directory")


def _growing_loop(tree: Path) -> None:
    (tree / "etc/hosts").symlink_to("hosts/hosts/hosts")


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "loop": (_loop, "too many levels of symbolic links"),
    "loop that grows": (_growing_loop, "too many levels of symbolic links"),
    "file above": (_file_above, "'/etc' in it is not a directory"),
    "directory": (lambda tree: (tree / "etc/hosts").mkdir(), "is a directory there"),
}


@pytest.mark.parametrize(("spoil", "why"), REFUSED.values(), ids=list(REFUSED))
def test_what_cannot_be_mounted_on_is_refused_in_one_line_that_names_it(
    store: Store, spoil: Callable[[Path], object], why: str
) -> None:
    [container] = store.create(add_image(store, {"usr/x": b"1"}), name="web")
    with tree_of(store, container) as (tree, _):
        (tree / "etc").mkdir()
        spoil(tree)
    before = tree_entries(store, container)
    with pytest.raises(Conflict) as caught:
        prepare(store, container, [("/new", DIRECTORY), ("/etc/hosts", FILE)])
    assert str(caught.value).startswith("container web: cannot mount on '/etc/hosts': ")
    assert why in str(caught.value) and "\n" not in str(caught.value)
    assert tree_entries(store, container) == before


@pytest.mark.parametrize("path", ["/a\0b", "/\ud800", "/" + "x/" * 3000, "/" + "n" * 300])
def test_what_is_no_path_is_refused_in_one_line(
    store: Store, container: Container, path: str
) -> None:
    with pytest.raises(Conflict, match=r"invalid argument|file name too long") as caught:
        prepare(store, container, [(path, DIRECTORY)])
    assert "\n" not in str(caught.value)
    assert diff(store, container) == []


def test_a_file_where_a_directory_is_wanted_is_refused(store: Store, container: Container) -> None:
    with pytest.raises(Conflict, match="'/etc/passwd': it is no directory there"):
        prepare(store, container, [("/etc/passwd", DIRECTORY)])
    with pytest.raises(Conflict, match="'/': it is a directory there"):
        prepare(store, container, [("/", FILE)])
    with pytest.raises(Conflict, match="'/new': a file goes on it, and something below it"):
        prepare(store, container, [("/new", FILE), ("/new/inside", DIRECTORY)])
    assert diff(store, container) == []


def test_files_go_on_fifos_devices_and_sockets_which_are_not_opened(store: Store) -> None:
    [container] = store.create(add_image(store, {"etc/x": b"1"}))
    with tree_of(store, container) as (tree, fd):
        os.mkfifo(tree / "etc/hosts")
        os.mknod(tree / "etc/hostname", 0o600 | stat.S_IFCHR, os.makedev(10, 130))
        with socket.socket(socket.AF_UNIX) as unix:
            unix.bind(f"/proc/self/fd/{fd}/etc/resolv.conf")
    wanted = [("/etc/hosts", FILE), ("/etc/hostname", FILE), ("/etc/resolv.conf", FILE)]
    assert prepare(store, container, wanted) == [path for path, _ in wanted]
    assert store.graph.mount_points(container.id) == []


def test_what_a_directory_hands_down_is_not_taken(store: Store) -> None:
    def write(tree: str) -> int:
        os.chown(tree, 0, 7)
        os.chmod(tree, 0o2777)
        acl = posix_acl((0x01, 7, -1), (0x02, 7, 5), (0x04, 5, -1), (0x10, 7, -1), (0x20, 5, -1))
        os.setxattr(tree, "system.posix_acl_default", acl)
        return 0

    [container] = store.create(store.add_image(write, document()))
    umask = os.umask(0o077)
    try:
        prepare(store, container, [("/d/e", DIRECTORY), ("/f", FILE)])
    finally:
        os.umask(umask)
    with tree_of(store, container) as (tree, _):
        for name, mode in (("d", 0o755), ("d/e", 0o755), ("f", 0o644)):
            status = os.lstat(tree / name)
            assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (mode, 0, 0)
            assert os.listxattr(tree / name) == []
    assert diff(store, container) == []


def test_names_that_are_swapped_all_the_time_lead_nowhere_outside(
    store: Store, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    [container] = store.create(add_image(store, {"etc/x": b"1"}))
    with tree_of(store, container) as (tree, fd):
        (tree / "link").symlink_to(outside)
        over = threading.Event()

        def swap() -> None:
            while not over.is_set():
                STEPS["exchange"](bytes(tree / "etc"), bytes(tree / "link"))

        thread = threading.Thread(target=swap)
        thread.start()
        try:
            for number in range(300):
                wanted = [(f"/etc/{number}/{name}", FILE) for name in "ab"]
                with contextlib.suppress(Conflict):
                    mount_points.prepare(store, container, fd, wanted)
                assert os.listdir(outside) == []
        finally:
            over.set()
            thread.join()
    assert os.listdir(outside) == []
