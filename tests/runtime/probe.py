"""What a process sees and may do, as one JSON object: run inside a container by the tests."""

import ctypes
import errno
import json
import os
import platform
import resource
import socket
import stat
import sys

_X86 = {"add_key": 248, "keyctl": 250, "bpf": 321, "init_module": 175, "kexec_load": 246}
_ARM = {"add_key": 217, "keyctl": 219, "bpf": 280, "init_module": 105, "kexec_load": 104}
_ANY = {"io_uring_setup": 425, "open_tree": 428, "fsopen": 430, "clone3": 435}
NUMBERS = (_X86 if platform.machine() == "x86_64" else _ARM) | _ANY
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
ADDR_NO_RANDOMIZE = 0x40000

libc = ctypes.CDLL(None, use_errno=True)


def _answer(result):
    return errno.errorcode[ctypes.get_errno()] if result == -1 else "done"


def _in_child(act):
    """What the call answers in a process of its own, which it may change."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, act().encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading, "rb") as answer:
        return answer.read().decode()


def _tried(act):
    try:
        act()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"


def _open_log():
    """Make the node of the kernel's log, which every host has, and open it to write to it."""
    made = _tried(lambda: os.mknod("/tmp/kmsg", stat.S_IFCHR | 0o600, os.makedev(1, 11)))
    if made != "done":
        return f"mknod: {made}"
    return "open: " + _tried(lambda: os.close(os.open("/tmp/kmsg", os.O_WRONLY)))


def _text(path):
    try:
        with open(path, "rb") as file:
            return file.read(4096).decode(errors="replace")
    except OSError as error:
        return errno.errorcode[error.errno]


def _status():
    with open("/proc/self/status") as status:
        return {name: value.strip() for name, _, value in (line.partition(":") for line in status)}


def _mounts():
    found = {}
    with open("/proc/self/mountinfo") as lines:
        for line in lines:
            fields = line.split()
            rest = fields[fields.index("-") + 1 :]
            options = sorted({*fields[5].split(","), *rest[2].split(",")})
            found[fields[4]] = {"type": rest[0], "options": options, "tags": fields[6:-4]}
    return found


def _socket(family):
    return _tried(lambda: socket.socket(family, socket.SOCK_STREAM).close())


def main():
    empty = ctypes.create_string_buffer(256)
    calls = {
        name: lambda number=number: _answer(libc.syscall(number, empty, 0, 0, 0, 0, 0))
        for name, number in NUMBERS.items()
    }
    calls |= {
        "mount": lambda: _answer(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)),
        "unshare": lambda: _answer(libc.unshare(CLONE_NEWNS)),
        "unshare user": lambda: _answer(libc.unshare(CLONE_NEWUSER)),
        "setns": lambda: _answer(libc.setns(0, 0)),
        "personality": lambda: _answer(libc.personality(ADDR_NO_RANDOMIZE)),
        "sethostname": lambda: _answer(libc.sethostname(b"x", 1)),
        "chroot": lambda: _answer(libc.chroot(b"/")),
        "vsock": lambda: _socket(socket.AF_VSOCK),
        "alg": lambda: _tried(lambda: socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)),
        "inet": lambda: _socket(socket.AF_INET),
        "kmsg": _open_log,
        "write /": lambda: _tried(lambda: os.mkdir("/made")),
        "write /tmp": lambda: _tried(lambda: os.mkdir("/tmp/made")),
        "write /proc/sys": lambda: _tried(lambda: open("/proc/sys/vm/swappiness", "w").close()),
        "write /sys": lambda: _tried(lambda: open("/sys/kernel/uevent_seqnum", "w").close()),
    }
    mask = os.umask(0)
    seen = {
        "pid": os.getpid(),
        "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
        "arguments": _text("/proc/1/cmdline").split("\0")[:-1],
        "status": _status(),
        "hostname": socket.gethostname(),
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "ids": [os.getuid(), os.getgid()],
        "groups": sorted(os.getgroups()),
        "umask": mask,
        "terminal": list(os.get_terminal_size(0)) if os.isatty(0) else None,
        "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
        "devices": sorted(os.listdir("/dev")),
        "interfaces": sorted(os.listdir("/sys/class/net")),
        "mounts": _mounts(),
        "files": {path: _text(path) for path in sys.argv[1:]},
        "calls": {name: _in_child(call) for name, call in calls.items()},
    }
    json.dump(seen, sys.stdout)


main()
