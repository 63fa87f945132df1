"""What libvirt's system instance has: the machines and the disks of vagrant's hosts."""

import subprocess

from debian import Failure

POOL = "default"


def answers() -> bool:
    command = ["virsh", "--quiet", "--connect", "qemu:///system", "uri"]
    return subprocess.run(command, capture_output=True).returncode == 0


def virsh(*words: str) -> str:
    """What virsh prints.

    Raises:
        Failure: with what virsh says.
    """
    command = ["virsh", "--quiet", "--connect", "qemu:///system", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(f"virsh {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def domains(prefix: str) -> list[str]:
    return [name for name in virsh("list", "--all", "--name").split() if name.startswith(prefix)]


def volumes(prefix: str) -> list[str]:
    """Disks in the pool that vagrant-libvirt uses, which it makes at its first host."""
    if POOL not in virsh("pool-list", "--name").split():
        return []
    lines = virsh("vol-list", "--pool", POOL).splitlines()
    return [line.split()[0] for line in lines if line.strip().startswith(prefix)]


def remove_hosts(prefix: str) -> None:
    """End the machines of that prefix, if any, and delete their disks."""
    for name in domains(prefix):
        if virsh("domstate", name).strip() != "shut off":
            virsh("destroy", name)
        virsh("undefine", name)
    for name in volumes(prefix):
        virsh("vol-delete", "--pool", POOL, name)
