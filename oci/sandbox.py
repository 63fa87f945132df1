"""Work done by a child process that has made a tree its root directory, fed through a pipe.

Nothing that the child does can reach outside the tree: no name, no link, no device. What it
needs is imported before it goes in, and from then on it can import nothing at all, since the
modules that it would find are those of the tree. It holds no descriptor of its parent's but the
two pipes and those it is to have. It ends when its parent does, by the end of its input, and
never runs what the parent has registered to run at its own end.
"""

import contextlib
import errno
import gc
import os
import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable
from itertools import pairwise

from backends.errors import (
    BackendError,
    CowshedError,
    NoSpace,
    NotSupported,
    Unavailable,
    VolumeBusy,
)
from backends.tree import TreeChanged
from oci.errors import ArchiveError

_PIPE_SIZE = 1 << 20
_F_SETPIPE_SZ = 1031
_CLONE_NEWUSER = 0x10000000
_MOST_REPORTED = 8000
_DONE = "done"
_BUG = "bug"
_REPORTED = (
    CowshedError,
    ArchiveError,
    BackendError,
    NoSpace,
    NotSupported,
    TreeChanged,
    Unavailable,
    VolumeBusy,
)
_ERRORS = {kind.__name__: kind for kind in _REPORTED}


def run_inside(
    tree: str, work: Callable[[int], str], feed: Callable[[int], None], kept: Iterable[int] = ()
) -> str:
    """What `work` returned in a child whose root directory is `tree`.

    `work` gets a descriptor that reads what `feed`, here in the parent, writes to its own; it
    reads to the end, and must import nothing. It has the descriptors `kept`, too. A child that
    stops reading early is for `feed` to bear (BrokenPipeError). Raises what `work` raises, if it
    is a CowshedError. If `feed` raises, the child is ended before the exception goes on.
    """
    input_end, feed_end = os.pipe()
    report_end, answer_end = os.pipe()
    # No handler of the parent's may run in the child, nor here before the child is known.
    before = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        child = os.fork()
    except OSError as error:
        for fd in (input_end, feed_end, report_end, answer_end):
            os.close(fd)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise BackendError(f"cannot start a process: {error.strerror}") from error
    if child == 0:
        _be_the_child(tree, work, input_end, answer_end, kept)
    answer = None
    try:
        os.close(input_end)
        os.close(answer_end)
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            _enlarge(feed_end)
            feed(feed_end)
        finally:
            os.close(feed_end)
        answer = _read_all(report_end)
    finally:
        os.close(report_end)
        status = _reap(child, kill=answer is None)
    return _outcome(answer, status)


def _reap(child: int, *, kill: bool) -> int:
    """The wait status of the child, which is killed first if it is not to go on."""
    try:
        if kill:
            os.kill(child, signal.SIGKILL)
        return os.waitpid(child, 0)[1]
    except (ProcessLookupError, ChildProcessError):
        return 0  # Whoever started this process has it ignore SIGCHLD, so the kernel has reaped.


def _outcome(answer: str, status: int) -> str:
    kind, _, text = answer.partition("\n")
    if kind == _DONE:
        return text
    if kind in _ERRORS:
        raise _ERRORS[kind](text)
    if kind == _BUG:
        raise RuntimeError(f"in the child process:\n{text}")
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        raise BackendError(f"the process that writes the tree was ended by {name}; try again")
    raise BackendError("the process that writes the tree ended without a word; try again")


def _be_the_child(
    tree: str, work: Callable[[int], str], input_end: int, answer_end: int, kept: Iterable[int]
) -> None:
    """Work and answer; never returns, and never lets an exception out into the parent's code."""
    answer = _BUG
    try:
        _leave_the_parent({input_end, answer_end, *kept})
        _enter(tree)
        answer = f"{_DONE}\n{work(input_end)}"
    except CowshedError as error:
        known = next(kind for kind in type(error).__mro__ if kind in _REPORTED)
        answer = f"{known.__name__}\n{error}"
    except BaseException as error:  # noqa: BLE001 - the process ends; its parent raises it
        answer = f"{_BUG}\n{_told(error)}"
    finally:
        try:
            os.write(answer_end, answer.encode(errors="backslashreplace")[:_MOST_REPORTED])
        finally:
            os._exit(0)


def _told(error: BaseException) -> str:
    """The error, its causes, and where they were raised; opens no file.

    A traceback with its source lines would open their files by name, and those are the tree's.
    """
    lines = []
    cause: BaseException | None = error
    while cause is not None:
        lines.append(f"{type(cause).__name__}: {cause}")
        for frame, line in traceback.walk_tb(cause.__traceback__):
            code = frame.f_code
            lines.append(f'  File "{code.co_filename}", line {line}, in {code.co_name}')
        cause = cause.__cause__ or cause.__context__
    return "\n".join(lines)


def _say_nothing(unraisable: "sys.UnraisableHookArgs") -> None:
    """Keep quiet of an error in a finalizer: its report, too, would quote source lines."""


def _leave_the_parent(kept: set[int]) -> None:
    """Let go of what fork(2) inherits but `kept`: handlers, descriptors, garbage's finalizers."""
    gc.disable()
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    # An interrupt from the keyboard goes to parent and child; it is the parent's to answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    null = os.open(os.devnull, os.O_RDWR)
    for standard in {0, 1, 2} - kept:
        os.dup2(null, standard)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    end = limit if limit != resource.RLIM_INFINITY else 1 << 20
    for below, above in pairwise([2, *sorted(fd for fd in kept if fd > 2), end]):
        os.closerange(below + 1, above)
    os.umask(0)


def _enter(tree: str) -> None:
    if os.geteuid() != 0:
        _become_root_of_a_user_namespace()
    try:
        os.chroot(tree)
        os.chdir("/")
    except OSError as error:
        if error.errno == errno.EPERM:
            raise Unavailable(f"not allowed to chroot into {tree}; run as root") from error
        raise BackendError(f"cannot enter {tree}: {error.strerror}") from error
    sys.unraisablehook = _say_nothing
    warnings.simplefilter("ignore")
    sys.meta_path.clear()
    sys.path.clear()


def _become_root_of_a_user_namespace() -> None:
    """Gain the right to chroot, by a user namespace that maps this one user and group to itself."""
    import ctypes

    user, group = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    maps = (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    )
    try:
        if libc.unshare(_CLONE_NEWUSER) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        for name, text in maps:
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    except OSError as error:
        reason = f"no user namespace is to be had ({error.strerror})"
        raise Unavailable(f"not root, and {reason}; run as root") from error


def _enlarge(pipe: int) -> None:
    import fcntl

    # Once the user has reached the limit of pipe memory, the pipe works as it is.
    with contextlib.suppress(PermissionError):
        fcntl.fcntl(pipe, _F_SETPIPE_SZ, _PIPE_SIZE)


def _read_all(fd: int) -> str:
    pieces = []
    while piece := os.read(fd, 1 << 16):
        pieces.append(piece)
    return b"".join(pieces).decode(errors="replace")
