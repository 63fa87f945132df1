"""Whether this machine can run virtual machines by itself, or must emulate them."""

import fcntl
import os
import re
from pathlib import Path

KVM_CREATE_VM = 0xAE01


def kvm_works() -> bool:
    # In some virtual machines the device makes virtual machines, but these then do not run.
    if not re.search(r"^flags\b.* (vmx|svm)\b", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
        return False
    try:
        with open("/dev/kvm", "rb+", buffering=0) as kvm:
            os.close(fcntl.ioctl(kvm, KVM_CREATE_VM, 0))
    except OSError:
        return False
    return True
