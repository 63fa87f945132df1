"""Images and processes that mean harm: nothing outside is read, written or waited for.

Beside each stand files of the host that notice being touched. Whatever was tried ends soon, with at
most one line that says why, nothing is left of it, and `check` is content.
"""

import contextlib
import hashlib
import io
import os
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import SharedBtrfs, require
from tests.running.conftest import RUNTIMES, Box, busybox_tar, shared_by_module

PATIENCE = 15.0
"""Seconds that a command may take that is not meant to wait."""

UP = "../" * 20
SECRET = "spy:x:4242:4242::/spy:/bin/sh\n"
FIFO, DIRECTORY, NULL, ZERO = "fifo", "directory", "c 1 3", "c 1 5"
HUGE = "#" * (5 << 20)


class Outside:
    """A directory of the host in which nothing is to be read, written, made or removed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "sub").mkdir(parents=True)
        for name in ("passwd", "group", "hosts", "hostname", "resolv.conf", "sub/file"):
            (path / name).write_text(SECRET)
        self._paths = sorted(path.rglob("*"), reverse=True)
        for each in [*self._paths, path]:
            # So old that also a mount with relatime says when it is read (mount(8)).
            os.utime(each, (1000, 2000))
        self._before = self._look()

    def _look(self) -> list[tuple[object, ...]]:
        found = [each.lstat() for each in [self.path, *self._paths]]
        return [(s.st_ino, s.st_mode, s.st_uid, s.st_size, s.st_mtime_ns, s.st_atime_ns, s.st_nlink)
                for s in found]  # fmt: skip

    def is_untouched(self) -> bool:
        # Of a directory that gains or loses a name, the time changes.
        return self._look() == self._before


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Outside]:
    made = Outside(tmp_path / "outside")
    yield made
    assert made.is_untouched()


@pytest.fixture(scope="module", params=RUNTIMES)
def box(
    request: pytest.FixtureRequest,
    shared_btrfs: SharedBtrfs,
    tmp_path_factory: pytest.TempPathFactory,
    busybox: Path,
) -> Iterator[Box]:
    """One store for all these tests."""
    directory = tmp_path_factory.mktemp("hostile")
    with shared_by_module(request, shared_btrfs, directory, busybox) as made:
        yield made


def tree(edits: Sequence[tuple[str, str]], outside: Path) -> bytes:
    """The busybox as a tar in which other things are in some places.

    What is to be there: FIFO, DIRECTORY, a device, `-> TARGET` for a link, or a file's content.
    OUT stands for the path of `outside`.
    """
    made = io.BytesIO()
    places = [path for path, _ in edits]
    with (
        tarfile.open(fileobj=io.BytesIO(busybox_tar())) as base,
        tarfile.open(fileobj=made, mode="w") as changed,
    ):
        for member in base:
            if not any(f"{member.name}/".startswith(f"{place}/") for place in places):
                changed.addfile(member, base.extractfile(member) if member.isreg() else None)
        for path, what in edits:
            what = what.replace("OUT", str(outside))
            entry = tarfile.TarInfo(path)
            entry.mode, content = 0o755, b""
            if what == FIFO:
                entry.type = tarfile.FIFOTYPE
            elif what == DIRECTORY:
                entry.type = tarfile.DIRTYPE
            elif what in (NULL, ZERO):
                entry.type = tarfile.CHRTYPE
                entry.devmajor, entry.devminor = map(int, what.split()[1:])
            elif what.startswith("-> "):
                entry.type, entry.linkname = tarfile.SYMTYPE, what.removeprefix("-> ")
            else:
                content = what.encode()
            entry.size = len(content)
            changed.addfile(entry, io.BytesIO(content))
    return made.getvalue()


@pytest.fixture
def image(
    box: Box, outside: Outside, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[str]:
    """The name of an image with the edits that the test's case has."""
    (tmp_path / "tree.tar").write_bytes(tree(request.param, outside.path))
    box.ok("import", "-c", 'CMD ["sh"]', str(tmp_path / "tree.tar"), "hostile")
    yield "hostile"
    left = box.lines("ps", "-aq")
    if left:
        # What one case left is not to fail the next.
        box("check", "--repair", timeout=PATIENCE)
        box("rm", "-f", "-v", *left, timeout=PATIENCE)


class Case(NamedTuple):
    """A tree, the options of run, a script, and what comes of it.

    `status`: of `run`, of which each is right. `said`: in its one line then. `printed`: by a script
    that was run.
    """

    edits: list[tuple[str, str]]
    options: list[str]
    script: str
    status: tuple[int, ...] = (0,)
    said: str = ""
    printed: str | None = None


def _passwd(*to: str) -> dict[str, Case]:
    found = {}
    for number, what in enumerate(to):
        edits = [("etc/passwd", what), ("etc/group", what)]
        found[f"passwd {number} by name"] = Case(edits, ["-u", "spy"], "id", (125,), "'spy'")
        # runc reads them itself, and would wait for a fifo: these may be refused.
        special = what in (FIFO, ZERO, DIRECTORY)
        status = (0, 125) if special else (0,)
        found[f"passwd {number} by name"] = found[f"passwd {number} by name"]._replace(
            said="" if special else "'spy'"
        )
        found[f"passwd {number}"] = Case(edits, [], "echo $HOME", status, printed="/")
    return found


CASES = {
    **_passwd(
        "-> OUT/passwd", f"-> {UP}OUT/passwd", "-> /proc/self/root/OUT/passwd", "-> passwd",
        "-> /proc/1/root/OUT/passwd", FIFO, ZERO, DIRECTORY,
    ),
    "group a fifo": Case([("etc/group", FIFO)], ["-u", "web"],
                          "grep Groups: /proc/self/status", (0, 125), printed="Groups:\t1000 "),
    "a group of the host": Case([("etc/group", "-> OUT/group")], ["--group-add", "spy"], "true",
                                (125,), "'spy'"),
    "a huge passwd": Case([("etc/passwd", HUGE)], [], "true", (125,), "larger than"),
    "a passwd of lines that are none": Case(
        [("etc/passwd", "\n:\n::::\nweb:x:99999999999:0::/:\nweb:x:-1:0::/:\nweb\n\0:x:1:1:\n")],
        ["-u", "web"], "id", (125,), "'web'"),
    "a home of two lines": Case([("etc/passwd", "web:x:7:7::/h\rome\x1b[31m:\n")], ["-u", "web"],
                                "echo $HOME", printed="/"),
    "etc a link out": Case([("etc", "-> OUT")], [], "true"),
    "etc a link up and out": Case([("etc", f"-> {UP}OUT")], ["-u", "spy"], "true", (125,), "'spy'"),
    "etc a link inside": Case([("usr", DIRECTORY), ("usr/etc", DIRECTORY), ("etc", "-> usr/etc")],
                              [], "grep -c localhost /usr/etc/hosts", printed="2"),
    "etc a file": Case([("etc", "moo")], [], "true", (125,), "not a directory"),
    "proc a link to etc": Case([("proc", "-> etc")], [], "cat /etc/passwd", (0, 125)),
    "proc a link out": Case([("proc", "-> OUT")], [], "true", (0, 125)),
    "proc a link up and out": Case([("proc", f"-> {UP}OUT/sub")], [], "true", (0, 125)),
    "proc a file": Case([("proc", "moo")], [], "true", (125,), "/proc"),
    "proc a fifo": Case([("proc", FIFO)], [], "true", (125,), "/proc"),
    "sys a link out": Case([("sys", "-> OUT")], [], "true", (0, 125)),
    # crun 1.8 and runc 1.1 make devices and links where it leads on the host.
    "dev a link out": Case([("dev", "-> OUT")], [], "true", (0, 125)),
    "dev a link to the root": Case([("dev", "-> /")], [], "true", (0, 125)),
    "dev a file": Case([("dev", "moo")], [], "true", (125,), "/dev"),
    "dev with things in it": Case(
        [("dev", DIRECTORY), ("dev/null", "-> OUT/passwd"), ("dev/shm", "-> OUT"),
         ("dev/pts", "-> OUT/sub"), ("dev/console", FIFO), ("dev/sda", "moo")],
        [], "echo x > /dev/null; echo x > /dev/shm/x; ls /dev/sda || echo none", printed="none"),
    "resolv.conf a circle": Case([("etc/resolv.conf", "-> resolv.conf")], [], "true", (125,),
                                 "resolv.conf"),
    "resolv.conf a circle of two": Case([("etc/resolv.conf", "-> /x"), ("x", "-> etc/resolv.conf")],
                                        [], "true", (125,), "resolv.conf"),
    "resolv.conf a directory": Case([("etc/resolv.conf", DIRECTORY)], [], "true", (125,),
                                    "resolv.conf"),
    "resolv.conf a link to nothing": Case(
        [("etc/resolv.conf", "-> ../run/systemd/resolve/stub-resolv.conf")], [],
        "readlink /etc/resolv.conf; wc -c < /etc/resolv.conf", printed=None),
    "resolv.conf a link out": Case([("etc/resolv.conf", "-> OUT/resolv.conf")], [],
                                   "echo x >> /etc/resolv.conf; wc -l < /etc/resolv.conf"),
    "resolv.conf a link up and out": Case([("etc/resolv.conf", f"-> {UP}OUT/resolv.conf")], [],
                                          "echo x >> /etc/resolv.conf"),
    "hosts a fifo": Case([("etc/hosts", FIFO)], [], "grep -c localhost /etc/hosts", printed="2"),
    "hosts a device": Case([("etc/hosts", ZERO)], [], "grep -c localhost /etc/hosts", printed="2"),
    "hosts a link to passwd": Case([("etc/hosts", "-> passwd")], [], "true", (0, 125)),
    "hosts a link to hostname": Case([("etc/hosts", "-> hostname")], [], "true", (0, 125)),
    "hostname a link to the root": Case([("etc/hostname", "-> /")], [], "true", (125,), "hostname"),
    "a bind through a link": Case([("link", "-> OUT")], ["-v", "HOST:/link/sub/x"],
                                  "ls /link/sub/x",
                                  printed="given"),
    "a bind through a link up": Case([("link", f"-> {UP}OUT")], ["-v", "HOST:/link/x"],
                                     "ls /link/x", printed="given"),
    "a bind on a link": Case([("link", "-> OUT/sub")], ["-v", "HOST:/link"], "ls /link",
                             printed="given"),
    "a bind below dots": Case([("link", "-> OUT/sub")], ["-v", "HOST:/link/../../x"], "ls /x",
                              (0, 125)),
    "a bind on a fifo": Case([("link", FIFO)], ["-v", "HOST:/link"], "true", (125,), "/link"),
    "a bind below a file": Case([("link", "moo")], ["-v", "HOST:/link/x"], "true", (125,), "/link"),
    "a file on a directory": Case([("link", DIRECTORY)], ["-v", "HOST/given:/link"], "true", (125,),
                                  "/link"),
    "a volume through a link": Case([("link", "-> OUT")], ["-v", "/link/sub"],
                                    "echo x > /link/sub/x; ls -A /link/sub", printed="x"),
    "a volume filled from a link": Case([("link", "-> OUT")], ["-v", "/link"], "ls -A /link",
                                        printed=""),
    "a volume filled from a link up": Case([("link", f"-> {UP}OUT")], ["-v", "/link"],
                                           "ls -A /link", printed=""),
    "a volume filled with links": Case(
        [("data", DIRECTORY), ("data/one", "-> OUT/passwd"), ("data/two", f"-> {UP}OUT"),
         ("data/three", FIFO)],
        ["-v", "/data"], "cat /data/one || ls /data", printed="one\nthree\ntwo"),
    "a tmpfs through a link": Case([("link", "-> OUT")], ["--tmpfs", "/link/sub"],
                                   "echo x > /link/sub/x", (0, 125)),
    "a directory to work in through a link": Case([("link", "-> OUT")], ["-w", "/link/sub/new"],
                                                  "echo > x", (0, 125, 127)),
    "a directory to work in up a link": Case([("link", f"-> {UP}OUT")], ["-w", "/link/new"],
                                             "echo > x", (0, 125, 127)),
    "a file to work in": Case([("link", "moo")], ["-w", "/link"], "true", (125, 126, 127)),
    "an init through a link": Case([("sbin", "-> OUT")], ["--init"], "true"),
    "an init a link": Case([("sbin", DIRECTORY), ("sbin/docker-init", "-> OUT/passwd")],
                           ["--init"], "true"),
    "a masked path through a link": Case([("link", "-> OUT/sub")],
                                         ["--security-opt", "mask=/link:/link/file"], "true",
                                         (0, 125)),
    "a device on a link": Case([("link", "-> OUT")], ["--device", "/dev/null:/link/null"],
                               "ls /link", (0, 125)),
    "names of two lines": Case([("two\nlines", DIRECTORY), ("two\nlines/\x1b[31m", "moo")],
                               ["-v", "/two\nlines/\x1b[2J", "-w", "/two\nlines"], "pwd",
                               printed="/two\nlines"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("image", "case"),
    [pytest.param(case.edits, case, id=name) for name, case in CASES.items()],
    indirect=["image"],
)
def test_a_hostile_tree_reaches_nothing_outside(
    box: Box, outside: Outside, image: str, case: Case, tmp_path: Path
):
    if "--init" in case.options:
        require("tini-static")
    (tmp_path / "host").mkdir()
    (tmp_path / "host/given").touch()
    options = [text.replace("HOST", f"{tmp_path}/host") for text in case.options]
    done = box(
        "run", "--rm", *options, image, "sh", "-c", f"( {case.script} ) 2>/dev/null",
        timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode in case.status, done.stderr
    if done.returncode:
        assert_one_line(done)
        assert case.said in done.stderr
    else:
        assert done.stderr == ""
    assert "spy" not in done.stdout
    if case.printed is not None and done.returncode == 0:
        assert done.stdout.removesuffix("\n") == case.printed
    assert outside.is_untouched()
    assert os.listdir(tmp_path / "host") == ["given"]
    box.require_clean()
    assert box.lines("ps", "-aq") == [] and box.lines("volume", "ls", "-q") == []


def assert_one_line(done: subprocess.CompletedProcess[str]) -> None:
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.rstrip("\n").isprintable()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "image",
    [
        [("etc/resolv.conf", "-> ../run/systemd/resolve/stub-resolv.conf")],
        [("etc", "-> OUT")],
        [("etc/hosts", FIFO)],
        [("link", "-> OUT")],
    ],
    indirect=True,
)
def test_mount_points_made_through_links_are_in_no_diff_and_no_commit(box: Box, image: str):
    box.ok("run", "--name", "made", "-v", "/link/x", image, "sh", "-c", "echo > /root/own")
    assert box.lines("diff", "made") == ["C /root", "A /root/own"]
    box.ok("commit", "made", "grown")
    assert box.lines("diff", "grown") == ["C /root", "A /root/own"]
    box.ok("rm", "-v", "made")
    box.require_clean()


@pytest.mark.parametrize(
    "image", [[("etc/passwd", what)] for what in ("-> OUT/passwd", FIFO, ZERO, "-> /proc/1/root/OUT"
                                                  "/passwd", "-> /proc/1/cwd/etc/passwd")],
    indirect=True,
)  # fmt: skip
def test_exec_takes_no_user_from_outside(box: Box, image: str):
    started = box("run", "-d", "--name", "web", image, "sleep", "1000", timeout=PATIENCE)
    if started.returncode:
        # runc would read what is there, too: what is no file is refused before.
        assert_one_line(started)
        return
    box.refused("exec", "-u", "spy", "web", "id", timeout=PATIENCE)
    assert "\t7\n" in box.ok("exec", "-u", "7:8", "web", "grep", "Uid", "/proc/self/status")
    box.ok("rm", "-f", "web")
    box.require_clean()


SWAPPER = """
mkdir -p /data/sub; echo own > /data/sub/file
cp /etc/passwd /p
while true; do
    mv /data /own; ln -s OUT /data; rm /data; mv /own /data
    mv /data/sub /data/own; ln -s OUT/sub /data/sub; rm /data/sub; mv /data/own /data/sub
    ln -sf OUT/passwd /etc/passwd; rm /etc/passwd; cp /p /etc/passwd
done 2>/dev/null
"""
"""Directories and a file become links out of the container, and again what they were."""


def test_a_tree_that_changes_under_exec_and_cp_leads_nowhere(
    box: Box, outside: Outside, tmp_path: Path
):
    script = SWAPPER.replace("OUT", str(outside.path))
    box.ok("run", "-d", "--name", "web", "box", "sh", "-c", script)
    got = tmp_path / "got"
    got.mkdir()
    (tmp_path / "given").write_text("given\n")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("given\n")
    done = []
    for number in range(12):
        done += [
            box("exec", "-u", "spy", "web", "true", timeout=PATIENCE),
            box("exec", "-u", "web", "-w", "/data/sub", "web", "id", timeout=PATIENCE),
            box("cp", "-q", str(tmp_path / "given"), "web:/data/sub/file", timeout=PATIENCE),
            box("cp", "-q", f"{tmp_path}/tree/.", "web:/data/sub", timeout=PATIENCE),
            box("cp", "-q", "web:/data/sub/file", f"{got}/file-{number}", timeout=PATIENCE),
            box("cp", "-q", "web:/data", f"{got}/all-{number}", timeout=PATIENCE),
        ]
    for each in done:
        assert "spy" not in each.stdout and "Traceback" not in each.stderr
        if each.returncode:
            assert_one_line(each)
    assert not [each for each in done if "spy" in each.args and each.returncode == 0]
    assert len([each for each in done if each.returncode == 0]) > 5
    box.ok("rm", "-f", "web", timeout=PATIENCE)
    for path in got.rglob("*"):
        assert not path.is_file() or "spy" not in path.read_text()
    assert outside.is_untouched()
    box.require_clean()


def test_commit_and_diff_of_a_tree_that_changes_stay_inside(box: Box, outside: Outside):
    script = SWAPPER.replace("OUT", str(outside.path))
    box.ok("run", "-d", "--name", "web", "box", "sh", "-c", script)
    for number in range(4):
        assert "Traceback" not in box("diff", "web", timeout=PATIENCE).stderr
        box.ok("commit", "web", f"moment:{number}", timeout=PATIENCE)
        assert "spy" not in box("diff", f"moment:{number}").stdout
    box.ok("rm", "-f", "web")
    assert outside.is_untouched()
    box.require_clean()


@pytest.mark.parametrize(
    "word", ["no\nsuch", "\x1b[31mred", "/etc/\x1b]0;title\x07", "a" * 5000, "../../bin/\n", " "]
)
def test_a_command_with_a_hostile_name_is_refused_with_one_plain_line(box: Box, word: str):
    done = box("run", "--rm", "box", word, timeout=PATIENCE)
    assert done.returncode in (125, 126, 127)
    assert_one_line(done)
    box.require_clean()


@pytest.mark.parametrize(
    "config",
    [
        'USER web\\nroot', 'USER ../../x:$(id)', "WORKDIR /../../../..", "WORKDIR /proc/1/root",
        "ENV A=\x1b[31m", "LABEL a=\x1b[2J", 'ENTRYPOINT ["sh", "-c", "echo \x1b[31m"]',
        "VOLUME /proc", "VOLUME /proc/sys", "VOLUME /dev", "VOLUME /sys/fs", "VOLUME /etc/hosts",
    ],
)  # fmt: skip
def test_a_hostile_config_is_run_or_refused_with_one_line(
    box: Box, busybox: Path, outside: Outside, config: str
):
    if box("import", "-c", config, str(busybox), "odd").returncode:
        return
    done = box("run", "--rm", "odd", "pwd", timeout=PATIENCE)
    assert "Traceback" not in done.stderr
    if done.returncode == 125:
        assert_one_line(done)
    assert "Traceback" not in box("ps", "-a").stderr
    assert "\x1b" not in box("inspect", "odd").stdout
    box.ok("rmi", "-f", "odd")
    box.require_clean()


def test_garbage_comes_out_as_it_is_and_is_kept_so(box: Box):
    garbage = b"".join(hashlib.sha512(b"%d" % each).digest() for each in range(4000))
    garbage += b"\x1b[2J\x1b]0;moo\x07\r\r\n\0\xff\xfe no newline"
    done = box.raw("run", "-i", "--name", "web", "box", "cat", input=garbage, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, garbage, b"")
    kept = box.raw("logs", "web", timeout=PATIENCE)
    assert (kept.returncode, kept.stdout, kept.stderr) == (0, garbage, b"")
    box.ok("rm", "web")


def test_what_looks_like_a_line_of_the_log_is_only_output(box: Box):
    forged = "2020-01-01T00:00:00.000000000+00:00 stderr F forged\n"
    script = f"printf '%s' '{forged}'; printf 'x\\n2020 stdout P '; printf '\\n\\n'"
    box.ok("run", "--name", "web", "box", "sh", "-c", script)
    done = box("logs", "web")
    assert (done.stdout, done.stderr) == (f"{forged}x\n2020 stdout P \n\n", "")
    box.ok("rm", "web")


@pytest.mark.parametrize("options", [[], ["--tail", "1"], ["-t"]])
def test_a_line_of_twenty_megabytes_is_kept_and_shown(box: Box, options: list[str]):
    size = 20 << 20
    if box("inspect", "long").returncode:
        script = f"head -c {size} /dev/zero | tr '\\0' x"
        shown = _digest(box, "run", "--name", "long", "box", "sh", "-c", script)
        assert shown == (size, hashlib.sha256(b"x" * size).hexdigest())
    length, digest = _digest(box, "logs", *options, "long")
    if "-t" not in options:
        assert (length, digest) == (size, hashlib.sha256(b"x" * size).hexdigest())
    assert length >= size
    if options == ["-t"]:
        box.ok("rm", "long")


def _digest(box: Box, *arguments: str) -> tuple[int, str]:
    """How many bytes a command prints, and their digest; it may not take long."""
    running = box.start(*arguments, stdout=subprocess.PIPE)
    assert running.stdout is not None
    length, digest = 0, hashlib.sha256()
    timer = threading.Timer(4 * PATIENCE, running.kill)
    timer.start()
    with contextlib.closing(running.stdout):
        while piece := running.stdout.read(1 << 20):
            length += len(piece)
            digest.update(piece)
    timer.cancel()
    assert running.wait() == 0
    return length, digest.hexdigest()


def test_a_process_that_closes_its_streams_is_waited_for(box: Box):
    script = "echo first; exec 0<&- 1>&- 2>&-; sleep 1; exit 4"
    begun = time.monotonic()
    done = box("run", "--name", "web", "box", "sh", "-c", script, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (4, "first\n", "")
    assert time.monotonic() - begun > 1
    assert box("logs", "web", timeout=PATIENCE).stdout == "first\n"
    box.ok("rm", "web")
    box.require_clean()


def test_a_process_that_never_reads_does_not_hold_up_who_writes(box: Box):
    done = box.raw("run", "--rm", "-i", "box", "sleep", "0.3", input=b"x" * (8 << 20),
                   timeout=PATIENCE)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    box.require_clean()


def test_what_a_killed_process_leaves_running_is_ended_with_it(box: Box):
    script = "for n in 1 2 3; do (trap '' TERM HUP; sleep 1000) & done; echo up; exit 3"
    begun = time.monotonic()
    done = box("run", "--rm", "box", "sh", "-c", script, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (3, "up\n")
    assert time.monotonic() - begun < 10
    box.require_clean()


def test_who_does_not_read_on_gets_no_traceback(box: Box):
    running = box.start("run", "--name", "web", "box", "yes", stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE)  # fmt: skip
    assert running.stdout is not None and running.stderr is not None
    assert running.stdout.readline() == b"y\n"
    running.stdout.close()
    running.wait(PATIENCE)
    assert b"Traceback" not in running.stderr.read()
    running.stderr.close()
    box.ok("rm", "-f", "web", timeout=PATIENCE)
    box.require_clean()


def test_full_shared_memory_is_the_containers_own(box: Box):
    free = os.statvfs("/dev/shm").f_bfree
    script = "dd if=/dev/zero of=/dev/shm/x bs=1M 2>/dev/null; stat -c %s /dev/shm/x; sleep 0.2"
    assert box.run("box", "sh", "-c", script) == "67108864\n"
    assert abs(os.statvfs("/dev/shm").f_bfree - free) * 4096 < 32 << 20
    box.require_clean()


def test_the_files_beside_notice_what_is_done_to_them(tmp_path: Path):
    for number, act in enumerate(
        (
            lambda path: (path / "passwd").read_text(),
            lambda path: (path / "sub/file").write_text(SECRET),
            lambda path: (path / "new").touch(),
            lambda path: (path / "hosts").unlink(),
        )
    ):
        outside = Outside(tmp_path / str(number))
        assert outside.is_untouched()
        with contextlib.suppress(OSError):
            act(outside.path)
        with contextlib.suppress(FileNotFoundError):
            assert not outside.is_untouched()
