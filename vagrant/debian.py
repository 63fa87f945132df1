"""What the programs here share: Debian's packages, and what is built from them once and kept.

What is built is published whole, under a lock: two that want it at once build it once. Nothing
published is ever changed, and its name holds a digest of all that it is made of.
"""

import contextlib
import fcntl
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
PATIENCE = 60.0


class Failure(Exception):
    """What a program here could not do, in one line."""


class Stopped(Exception):
    """A signal asked to end. Holds its number."""


def stop_on_signals() -> None:
    """Make the first signal that asks to end raise Stopped, and ignore others from then on."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop(number: int, _frame: object) -> None:
        for other in signals:
            signal.signal(other, signal.SIG_IGN)
        raise Stopped(number)

    for number in signals:
        signal.signal(number, stop)


def say(message: str) -> None:
    program = Path(sys.argv[0]).name
    print(f"vagrant/{program}: {message}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def running(
    command: Sequence[str], *, end_by: signal.Signals = signal.SIGTERM, **options: object
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own that outlives neither the block nor this process."""
    process: subprocess.Popen[bytes] = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", *command],
        start_new_session=True,
        **options,  # type: ignore[call-overload]
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, end_by)
            try:
                process.wait(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def require_programs(packages: Mapping[str, str]) -> None:
    """Install what is missing, on Debian as root; name it otherwise.

    `packages`: the package that has each program.
    """
    # A user's PATH has not got the system's programs.
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    missing = {packages[name] for name in packages if not shutil.which(name, path=path)}
    if missing:
        install(missing)


def install(packages: Collection[str]) -> None:
    names = sorted(packages)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Failure(f"programs are missing; install what Debian calls {' '.join(names)}")
    say(f"installing {' '.join(names)}")
    command = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-qq"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["update"], ["-y", "--no-install-recommends", "install", *names]):
        done = subprocess.run(
            [*command, *step], env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr
        )
        if done.returncode != 0:
            raise Failure(f"apt-get {step[0]} failed; install {' '.join(names)} yourself")


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cowshed"


def remove(tree: Path) -> None:
    subprocess.run(["rm", "-rf", "--one-file-system", "--", tree], check=True)


@contextlib.contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold the lock under which `target` is built."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f"{target.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process is at {target.name}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A directory beside `target` to build it in; it goes with the block."""
    directory = target.with_name(target.name + ".new")
    remove(directory)
    directory.mkdir()
    try:
        yield directory
    finally:
        remove(directory)


def bootstrap(directory: Path, *options: str, target: Path | None = None) -> None:
    """Make a Debian of this machine's release with mmdebstrap, in `target` if it is to be kept.

    `directory` has room for what is needed meanwhile.

    Raises:
        Failure: after the end of what mmdebstrap printed.
    """
    (directory / "tmp").mkdir()
    (directory / "sources.list").write_text(apt_sources())
    log = directory / "log"
    # As root the mounts of the build, and every process of it, go with its first process.
    alone = "unshare --mount --pid --fork --kill-child=KILL --".split() if os.geteuid() == 0 else []
    command = [
        *[*alone, "mmdebstrap", "--mode=root" if alone else "--mode=unshare", "--variant=apt"],
        *["--format=directory" if target else "--format=null"],
        *["--aptopt=Apt::Install-Recommends false", "--aptopt=Acquire::Languages none"],
        *[*options, release(), str(target or "-"), str(directory / "sources.list")],
    ]
    start = time.monotonic()
    environment = {**os.environ, "TMPDIR": str(directory / "tmp"), "LC_ALL": "C.UTF-8"}
    with (
        log.open("wb") as output,
        running(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        ) as process,
    ):
        status = process.wait()
    if status != 0:
        sys.stderr.write("".join(log.read_text(errors="replace").splitlines(True)[-30:]))
        raise Failure(f"the build failed with status {status}; its last lines are above")
    say(f"built in {time.monotonic() - start:.0f} seconds")


def hook(command: str, *words: str | Path) -> str:
    """An option for mmdebstrap: what it does once all packages are there."""
    return f"--customize-hook={command} {shlex.join(map(str, words))}"


def release() -> str:
    return platform.freedesktop_os_release()["VERSION_CODENAME"]


def apt_sources() -> str:
    done = subprocess.run([HERE / "apt-sources"], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Failure("without a Debian archive there is nothing to build it from")
    return done.stdout
