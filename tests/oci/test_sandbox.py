"""The child that writes the tree: what it may reach, and how it ends."""

import contextlib
import gc
import io
import linecache
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import warnings

import pytest

from backends.errors import BackendError, CowshedError, Unavailable
from oci import layer, sandbox
from oci.errors import ArchiveError
from oci.sandbox import run_inside
from tests.conftest import require
from tests.oci.archives import END, apply, header, member


@pytest.fixture(autouse=True)
def _as_root():
    require("root")


def nothing(pipe):
    """Feed nothing."""


def open_descriptors():
    # What other tests left for the collector is not to go meanwhile.
    gc.collect()
    return set(os.listdir("/proc/self/fd"))


def test_the_tree_is_the_root_and_there_is_no_way_out(tmp_path):
    (tmp_path / "f").touch()

    def look(pipe):
        os.chdir("../../../../..")
        return repr((os.listdir("/"), os.getcwd(), os.path.exists("/proc")))

    assert run_inside(str(tmp_path), look, nothing) == "(['f'], '/', False)"


def test_nothing_can_be_imported_from_the_tree(tmp_path):
    """The interpreter would look for its modules in the tree, where the archive has put its own."""
    trap = tmp_path / os.path.dirname(os.__file__).lstrip("/")
    trap.mkdir(parents=True)
    (trap / "wave.py").write_text("raise SystemExit('trapped')")

    def import_something(pipe):
        try:
            import wave  # noqa: F401
        except ImportError:
            return "refused"
        return "imported"

    sys.modules.pop("wave", None)
    assert run_inside(str(tmp_path), import_something, nothing) == "refused"


def fail(pipe):
    try:
        raise KeyError("first")
    except KeyError as error:
        raise ValueError("no good") from error


def fail_in_a_finalizer(pipe):
    class Failing:
        def __del__(self):
            raise ValueError("no good")

    Failing()
    return "went on"


def warn(pipe):
    warnings.warn("no good", stacklevel=1)
    return "went on"


@pytest.fixture
def traps(tmp_path, monkeypatch):
    """A tree with fifos where its source files would be, if they were looked for there."""
    for source in (__file__, sandbox.__file__):
        trap = tmp_path / source.lstrip("/")
        trap.parent.mkdir(parents=True)
        os.mkfifo(trap)
    linecache.clearcache()
    monkeypatch.setattr(warnings, "showwarning", lambda *told: warnings.formatwarning(*told[:4]))

    def too_long(*_):
        raise TimeoutError("the child waits for a fifo")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(10)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        yield str(tmp_path)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_a_failure_is_told_without_a_look_at_source_files(traps):
    with pytest.raises(RuntimeError) as caught:
        run_inside(traps, fail, nothing)
    told = str(caught.value)
    assert "ValueError: no good\n" in told
    assert "KeyError: 'first'\n" in told
    assert f'File "{__file__}", line {fail.__code__.co_firstlineno + 4}, in fail\n' in told


@pytest.mark.parametrize("work", [fail_in_a_finalizer, warn])
def test_nothing_else_is_told_with_a_look_at_source_files(traps, work, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    assert run_inside(traps, work, nothing) == "went on"


def test_it_holds_no_descriptor_of_its_parents(tmp_path):
    def held(pipe):
        kept = []
        for fd in range(3, 64):
            with contextlib.suppress(OSError):
                kept.append(stat.S_ISFIFO(os.fstat(fd).st_mode))
        return str(kept)

    root = os.open("/", os.O_RDONLY)
    try:
        assert run_inside(str(tmp_path), held, nothing) == "[True, True]"
    finally:
        os.close(root)


def test_neither_descriptors_nor_processes_are_left_behind(tmp_path, family):
    before = open_descriptors()
    for _ in range(3):
        apply([member(b"f")], tmp_path / "tree")
        with pytest.raises(ArchiveError):
            apply([member(b"../f")], tmp_path / "tree")
    assert open_descriptors() <= before
    assert children(os.getpid()) == family


class Endless(io.RawIOBase):
    """A file of an archive that has no end, and what happens after a while of reading it."""

    def __init__(self, then):
        self.then = then
        self.head = header(b"big", size=1 << 40)
        self.reads = 0

    def readable(self):
        return True

    def read(self, size=-1):
        if self.head:
            taken, self.head = self.head[:size], self.head[size:]
            return taken
        self.reads += 1
        if self.reads == 20:
            self.then()
        return bytes(size)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, OSError])
def test_an_exception_in_the_parent_ends_the_child_and_goes_on(tmp_path, error, family):
    def fail():
        raise error("stop")

    before = open_descriptors()
    with pytest.raises(error, match="stop"):
        layer.apply(Endless(fail), str(tmp_path))
    assert open_descriptors() <= before
    assert children(os.getpid()) == family


def test_an_interrupt_from_the_keyboard_ends_the_child_and_goes_on(tmp_path, family):
    # A shell has what it starts in the background ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            layer.apply(Endless(lambda: os.kill(os.getpid(), signal.SIGINT)), str(tmp_path))
    finally:
        signal.signal(signal.SIGINT, before)
    assert children(os.getpid()) == family


def test_a_child_that_is_killed_is_told_of(tmp_path, family):
    def kill_the_child():
        (child,) = set(children(os.getpid())) - set(family)
        os.kill(child, signal.SIGKILL)

    with pytest.raises(BackendError, match="ended by SIGKILL"):
        layer.apply(Endless(kill_the_child), str(tmp_path))


@pytest.fixture
def family():
    """The children that this process has in any case; a daemon may be among them."""
    return children(os.getpid())


def children(process):
    with open(f"/proc/{process}/task/{process}/children") as file:
        return [int(child) for child in file.read().split()]


def test_the_child_ends_when_its_parent_is_killed(tmp_path):
    script = """
import sys, time
from tests.oci.test_sandbox import Endless
from oci import layer
print("ready", flush=True)
layer.apply(Endless(lambda: (print("busy", flush=True), time.sleep(100))), sys.argv[1])
"""
    parent = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout.readline() == b"ready\n"
        assert parent.stdout.readline() == b"busy\n"
        (child,) = children(parent.pid)
        parent.kill()
    for _ in range(500):
        if not os.path.exists(f"/proc/{child}") or is_zombie(child):
            return
        time.sleep(0.01)
    pytest.fail("the child goes on without its parent")


def is_zombie(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_the_parents_handlers_and_clean_up_do_not_run_in_the_child(tmp_path):
    script = """
import atexit, os, signal, sys
from oci import layer
from tests.oci.archives import END, member
import io
atexit.register(lambda: print("clean-up", os.getpid() == parent, flush=True))
parent = os.getpid()
signal.signal(signal.SIGTERM, lambda *_: print("handler"))
print("unflushed", end=" ")
layer.apply(io.BytesIO(member(b"f") + END), sys.argv[1])
try:
    layer.apply(io.BytesIO(b"no tar"), sys.argv[1])
except Exception as error:
    print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True)
    assert done.stdout == "unflushed ArchiveError\nclean-up True\n"
    assert done.stderr == ""


def test_a_parent_that_ignores_its_children_hears_of_them_all_the_same(tmp_path):
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert apply([member(b"f")], tmp_path / "tree").entries == 1
        with pytest.raises(KeyboardInterrupt):
            layer.apply(Endless(lambda: os.kill(os.getpid(), signal.SIGINT)), str(tmp_path))
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_two_at_once_in_threads_do_not_wait_for_each_other(tmp_path):
    errors = []

    def one(name):
        try:
            for _ in range(10):
                apply([member(b"f", b"x" * 100_000)], tmp_path / name)
        except CowshedError as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(f"tree{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert errors == []


def test_a_source_that_is_buffered_is_read_from_where_it_stands(tmp_path):
    with (tmp_path / "archive").open("w+b") as file:
        file.write(b"before" + member(b"f", b"x" * 20_000) + END)
        file.seek(0)
        assert file.read(6) == b"before"
        (tmp_path / "tree").mkdir()
        layer.apply(file, str(tmp_path / "tree"))
    assert (tmp_path / "tree/f").read_bytes() == b"x" * 20_000


def test_a_bug_in_the_child_is_not_passed_over(tmp_path):
    def buggy(pipe):
        raise ZeroDivisionError("oops")

    with pytest.raises(RuntimeError, match="ZeroDivisionError: oops"):
        run_inside(str(tmp_path), buggy, nothing)


def test_a_tree_that_is_not_there_is_an_error_of_one_line(tmp_path):
    with pytest.raises(BackendError, match="absent: No such file"):
        layer.apply(io.BytesIO(member(b"f") + END), str(tmp_path / "absent"))


AS_ANOTHER = """
import io, os, sys
sys.path.insert(0, sys.argv[1])
from backends.errors import CowshedError
from oci import layer
from tests.oci import archives
tree = sys.argv[2]
def attempt(*entries):
    try:
        print(layer.apply(io.BytesIO(b"".join(entries) + archives.END), tree).entries)
    except CowshedError as error:
        print(type(error).__name__, error)
mine = {"uid": 1234, "gid": 1234}
attempt(archives.header(b"d/", b"5", mode=0o500, **mine), archives.member(b"d/f", b"x", **mine))
attempt(archives.member(b"g/f"))
attempt(archives.header(b"n", b"3", major=1, minor=3, **mine))
"""


def test_a_user_other_than_root_gets_his_own_files_or_a_clear_error(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    os.chown(tree, 1234, 1234)
    for parent in (tmp_path, *tmp_path.parents[:-2]):
        parent.chmod(parent.stat().st_mode | 0o055)
    checkout = os.getcwd()
    done = subprocess.run(
        [sys.executable, "-c", AS_ANOTHER, checkout, tree],
        capture_output=True,
        text=True,
        user=1234,
        group=1234,
        extra_groups=[],
    )
    lines = done.stdout.splitlines()
    if "no user namespace" in done.stdout:
        pytest.skip("this kernel gives no user namespaces to users")
    assert done.stderr == ""
    assert lines == [
        "2",
        f"{Unavailable.__name__} not root: cannot give 'g/f' to 0:0; run as root",
        f"{Unavailable.__name__} not root: cannot make 'n' (Operation not permitted); run as root",
    ]
    assert (tree / "d").stat().st_mode & 0o777 == 0o500
