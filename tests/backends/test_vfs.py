"""What is particular to volumes that are plain directories."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from backends.base import CONTAINERS, LAYERS, STAGING, Volume
from backends.detached import read_only_view
from backends.errors import BackendError, NoSpace, Unavailable, VolumeBusy
from backends.vfs import VfsBackend, prepare
from tests.conftest import mounted, require
from tests.trees import entries, fill


def volume(kind: str, number: int = 1) -> Volume:
    return Volume(kind, f"{number:064x}")


def new_layer(backend: VfsBackend) -> Volume:
    backend.create(volume(STAGING))
    with backend.open(volume(STAGING)) as tree:
        fill(tree)
    backend.seal(volume(STAGING), volume(LAYERS))
    return volume(LAYERS)


@pytest.fixture
def backend(tmp_path: Path) -> VfsBackend:
    prepare(str(tmp_path / "pool"))
    return VfsBackend(str(tmp_path / "pool"))


def test_preparing_twice_changes_nothing_and_nobody_else_may_look(tmp_path: Path) -> None:
    for _ in range(2):
        prepare(str(tmp_path / "pool"))
    pool = tmp_path / "pool"
    assert all(path.stat().st_mode & 0o777 == 0o700 for path in (pool, *pool.rglob("*")))


def test_a_pool_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="file"):
        prepare(str(tmp_path / "file/pool"))


def test_a_clone_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    require("root")
    with mounted("tmpfs", Path("none"), tmp_path / "small", "size=12m") as small:
        prepare(str(small))
        backend = VfsBackend(str(small))
        backend.create(volume(STAGING))
        with backend.open(volume(STAGING)) as tree:
            Path(tree, "big").write_bytes(os.urandom(7 << 20))
        backend.seal(volume(STAGING), volume(LAYERS))
        free = backend.space().free
        with pytest.raises(NoSpace):
            backend.create(volume(CONTAINERS), volume(LAYERS))
        assert [found.volume for found in backend.volumes()] == [volume(LAYERS)]
        assert backend.leftovers() == []
        assert backend.space().free >= free - 65536


def test_where_the_name_was_taken_meanwhile_nothing_is_replaced(backend: VfsBackend) -> None:
    """A rename to a directory that is there replaces it when it is empty; ours must not."""
    from backends.vfs import _rename_to_new

    one, other = Path(backend.location(volume(STAGING))), Path(backend.location(volume(LAYERS)))
    one.mkdir()
    other.mkdir()
    with pytest.raises(FileExistsError):
        _rename_to_new(str(one), str(other))
    assert one.is_dir()


def test_a_removal_that_an_immutable_file_stops_names_it_and_a_sweep_ends_it(
    backend: VfsBackend,
) -> None:
    require("root")
    require("chattr")
    backend.create(volume(CONTAINERS))
    with backend.open(volume(CONTAINERS)) as tree:
        Path(tree, "stays").touch()
        subprocess.run(["chattr", "+i", f"{tree}/stays"], check=True)
    with pytest.raises(BackendError, match=r"stays.*chattr -i"):
        backend.remove(volume(CONTAINERS))
    (left,) = backend.leftovers()
    assert list(backend.volumes()) == []
    backend.create(volume(CONTAINERS))
    with pytest.raises(BackendError, match=r"stays.*chattr -i"):
        backend.sweep()
    stays = Path(backend.location(volume(CONTAINERS))).parents[1] / left / "stays"
    subprocess.run(["chattr", "-i", stays], check=True)
    assert backend.sweep() == [left]


def test_a_removal_under_way_is_no_leftover(backend: VfsBackend, tmp_path: Path) -> None:
    backend.create(volume(CONTAINERS))
    with backend.open(volume(CONTAINERS)) as tree:
        for number in range(20_000):
            os.close(os.open(f"{tree}/{number}", os.O_CREAT))
    remover = threading.Thread(target=backend.remove, args=(volume(CONTAINERS),))
    remover.start()
    seen = []
    while remover.is_alive():
        seen += backend.leftovers() + backend.sweep()
        time.sleep(0.005)
    remover.join()
    assert seen == []


def test_a_view_of_a_layer_ends_with_its_process(backend: VfsBackend) -> None:
    require("root")
    new_layer(backend)
    program = (
        "import os, sys\n"
        "from backends.vfs import VfsBackend\n"
        "from backends.base import Volume\n"
        "backend = VfsBackend(sys.argv[1])\n"
        "backend.open(Volume('layers', sys.argv[2])).__enter__()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    base = Path(backend.location(volume(LAYERS))).parents[1]
    subprocess.run([sys.executable, "-c", program, base, volume(LAYERS).id])
    assert volume(LAYERS).id not in Path("/proc/self/mountinfo").read_text()
    backend.remove(volume(LAYERS))


def test_a_container_that_changes_for_a_moment_is_copied_again(backend: VfsBackend) -> None:
    backend.create(volume(CONTAINERS))
    with backend.open(volume(CONTAINERS)) as tree:
        for number in range(500):
            Path(tree, f"{number}").touch()
    staging = Path(backend.location(volume(STAGING))).parent

    def disturb() -> None:
        while not any(True for copy in staging.iterdir() for _ in copy.iterdir()):
            pass
        with backend.open(volume(CONTAINERS)) as tree:
            for path in Path(tree).iterdir():
                path.unlink()

    disturber = threading.Thread(target=disturb)
    disturber.start()
    backend.snapshot(volume(CONTAINERS), volume(LAYERS))
    disturber.join()
    assert backend.leftovers() == []


def test_a_volume_that_cannot_get_its_name_leaves_no_record(backend: VfsBackend) -> None:
    require("root")
    require("chattr")
    containers = Path(backend.location(volume(CONTAINERS))).parent
    subprocess.run(["chattr", "+i", containers], check=True)
    try:
        with pytest.raises(BackendError):
            backend.create(volume(CONTAINERS))
    finally:
        subprocess.run(["chattr", "-i", containers], check=True)
    assert backend.leftovers() == []
    backend.create(volume(CONTAINERS))


def test_a_container_that_never_stands_still_is_busy_after_some_attempts(
    backend: VfsBackend,
) -> None:
    backend.create(volume(CONTAINERS))
    done = threading.Event()

    def churn() -> None:
        with backend.open(volume(CONTAINERS)) as tree:
            while not done.is_set():
                for number in range(200):
                    Path(tree, f"{number}").touch()
                for number in range(200):
                    Path(tree, f"{number}").unlink()

    writer = threading.Thread(target=churn)
    writer.start()
    try:
        for number in range(3):
            try:
                backend.snapshot(volume(CONTAINERS), volume(LAYERS, number))
            except VolumeBusy as error:
                assert "stop what writes to it" in str(error)
                assert backend.leftovers() == []
    finally:
        done.set()
        writer.join()


def test_a_user_who_is_not_root_has_the_whole_life_of_a_volume(tmp_path: Path) -> None:
    require("root")
    (tmp_path / "home").mkdir()
    os.chown(tmp_path / "home", 12345, 12345)
    program = (
        "import os, sys\n"
        "from backends.base import Volume\n"
        "from backends.vfs import VfsBackend, prepare\n"
        "import backends.copy, backends.changes, pathlib\n"
        "os.chdir(sys.argv[1])\n"
        "os.setgroups([]); os.setresgid(12345, 12345, 12345); os.setresuid(12345, 12345, 12345)\n"
        "prepare('pool')\n"
        "backend = VfsBackend('pool')\n"
        "one, layer, container, commit = (Volume(kind, str(number) * 64) for number, kind in\n"
        "    enumerate(('staging', 'layers', 'containers', 'layers')))\n"
        "backend.create(one)\n"
        "with backend.open(one) as tree:\n"
        "    pathlib.Path(tree, 'file').write_text('mine')\n"
        "    pathlib.Path(tree, 'closed').mkdir(mode=0o500)\n"
        "backend.seal(one, layer)\n"
        "backend.create(container, layer)\n"
        "with backend.open(container) as tree: pathlib.Path(tree, 'new').touch()\n"
        "backend.snapshot(container, commit)\n"
        "print([change.path for change in backend.changes(commit, layer)], backend.info())\n"
        "for each in (layer, container, commit): backend.remove(each)\n"
        "print(list(backend.volumes()), backend.leftovers())\n"
    )
    argv = [sys.executable, "-c", program, tmp_path / "home"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.stderr == ""
    first, second = done.stdout.splitlines()
    assert first.startswith("[b'', b'new']")
    assert "needs root" in first
    assert second == "[] []"


def test_a_view_shows_the_tree_and_refuses_writes_below_mounts_too(tmp_path: Path) -> None:
    require("root")
    fill(tmp_path)
    view = read_only_view(str(tmp_path))
    assert view is not None
    try:
        assert entries(f"/proc/self/fd/{view}/") == entries(tmp_path)
        with pytest.raises(OSError, match="Read-only"):
            os.open("new", os.O_CREAT, dir_fd=view)
    finally:
        os.close(view)
