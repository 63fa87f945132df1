"""Seccomp profiles: which rules of one are a container's, and which profiles will not do."""

import json

import pytest

from runtime.errors import RunError
from runtime.seccomp import seccomp

KERNEL = "6.1.0-13-amd64"
CONDITIONAL = {
    "mount": "CAP_SYS_ADMIN",
    "unshare": "CAP_SYS_ADMIN",
    "setns": "CAP_SYS_ADMIN",
    "chroot": "CAP_SYS_CHROOT",
    "reboot": "CAP_SYS_BOOT",
    "init_module": "CAP_SYS_MODULE",
    "iopl": "CAP_SYS_RAWIO",
    "settimeofday": "CAP_SYS_TIME",
    "syslog": "CAP_SYSLOG",
    "perf_event_open": "CAP_PERFMON",
    "bpf": "CAP_BPF",
    "mbind": "CAP_SYS_NICE",
    "kcmp": "CAP_SYS_PTRACE",
    "acct": "CAP_SYS_PACCT",
    "vhangup": "CAP_SYS_TTY_CONFIG",
    "open_by_handle_at": "CAP_DAC_READ_SEARCH",
}
NEVER = """
    add_key create_module get_kernel_syms io_uring_enter io_uring_register io_uring_setup
    kexec_file_load kexec_load keyctl move_pages nfsservctl pivot_root query_module request_key
    swapoff swapon sysfs userfaultfd uselib ustat vm86 vm86old _sysctl
""".split()


def default(*capabilities: str, architecture: str = "amd64", kernel: str = KERNEL):
    return seccomp(None, capabilities, architecture=architecture, kernel=kernel)


def of(profile: dict, *capabilities: str, architecture: str = "amd64", kernel: str = KERNEL):
    return seccomp(json.dumps(profile), capabilities, architecture=architecture, kernel=kernel)


def allowed(filter_) -> set[str]:
    """The calls that are allowed whatever their arguments."""
    return {
        name
        for rule in filter_["syscalls"]
        if rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("args")
        for name in rule["names"]
    }


def test_what_is_not_listed_answers_that_it_is_not_permitted() -> None:
    assert default()["defaultAction"] == "SCMP_ACT_ERRNO"
    assert default()["defaultErrnoRet"] == 1


@pytest.mark.parametrize(("call", "capability"), CONDITIONAL.items())
def test_a_call_is_allowed_with_its_capability_alone(call: str, capability: str) -> None:
    assert call not in allowed(default())
    assert call in allowed(default(capability))


def test_no_capability_opens_the_kernels_keys_or_io_uring() -> None:
    every = {f"CAP_{name}" for name in ("SYS_ADMIN", "SYS_MODULE", "SYS_BOOT", "SYS_RAWIO", "BPF")}
    assert not allowed(default(*every)) & set(NEVER)


def test_no_call_is_named_twice_without_a_condition() -> None:
    for rule in default("CAP_SYS_ADMIN")["syscalls"]:
        assert len(set(rule["names"])) == len(rule["names"])


def test_processes_can_be_made_and_namespaces_cannot() -> None:
    [rule] = [rule for rule in default()["syscalls"] if rule["names"] == ["clone"]]
    assert rule["args"] == [
        {"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    ]
    assert "clone" in allowed(default("CAP_SYS_ADMIN"))


def test_clone3_whose_flags_cannot_be_seen_is_not_implemented() -> None:
    [rule] = [rule for rule in default()["syscalls"] if rule["names"] == ["clone3"]]
    assert rule == {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
    assert "clone3" in allowed(default("CAP_SYS_ADMIN"))
    assert {"names": ["clone3"]} not in default("CAP_SYS_ADMIN")["syscalls"]


def test_the_flags_of_clone_are_its_second_argument_on_s390() -> None:
    [rule] = [rule for rule in default(architecture="s390x")["syscalls"] if "args" in rule and
              rule["names"] == ["clone"]]  # fmt: skip
    assert rule["args"][0]["index"] == 1


def test_a_personality_is_one_of_those_that_change_no_layout() -> None:
    rules = [rule for rule in default()["syscalls"] if rule["names"] == ["personality"]]
    values = [rule["args"][0]["value"] for rule in rules]
    assert values == [0, 8, 0x20000, 0x20008, 0xFFFFFFFF]


@pytest.mark.parametrize(("family", "may"), [(1, True), (2, True), (16, True), (38, False),
                                             (39, True), (40, False), (44, True)])  # fmt: skip
def test_sockets_of_vsock_and_alg_are_refused(family: int, may: bool) -> None:
    holds = {"LT": int.__lt__, "EQ": int.__eq__, "GT": int.__gt__}
    rules = [rule["args"] for rule in default()["syscalls"] if rule["names"] == ["socket"]]
    passed = [
        all(holds[arg["op"].removeprefix("SCMP_CMP_")](family, arg["value"]) for arg in args)
        for args in rules
    ]
    assert any(passed) is may


@pytest.mark.parametrize(
    ("architecture", "names", "calls", "others"),
    [
        ("amd64", ["X86_64", "X86", "X32"], {"arch_prctl", "modify_ldt"}, {"set_tls"}),
        ("arm64", ["AARCH64", "ARM"], {"set_tls", "breakpoint"}, {"arch_prctl", "modify_ldt"}),
        ("s390x", ["S390X", "S390"], {"s390_runtime_instr"}, {"arch_prctl"}),
        ("riscv64", ["RISCV64"], {"riscv_flush_icache"}, {"arch_prctl"}),
        ("ppc64le", [], {"swapcontext"}, {"arch_prctl"}),
        ("unheard-of", [], {"read"}, {"arch_prctl"}),
    ],
)
def test_each_machine_has_its_own_calls(architecture, names, calls, others) -> None:
    made = default(architecture=architecture)
    assert made.get("architectures", []) == [f"SCMP_ARCH_{name}" for name in names]
    assert calls <= allowed(made) and not others & allowed(made)


def test_ptrace_is_for_kernels_that_filter_what_it_changes() -> None:
    assert "ptrace" in allowed(default(kernel="4.8.0"))
    assert "ptrace" in allowed(default(kernel="10.0"))
    assert "ptrace" not in allowed(default(kernel="4.7.99"))
    assert "ptrace" in allowed(default("CAP_SYS_PTRACE", kernel="4.7.99"))


def test_unconfined_is_no_filter() -> None:
    assert seccomp("unconfined", ()) is None


def test_a_profile_of_ones_own_is_put_into_the_runtimes_words() -> None:
    made = of(
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "defaultErrnoRet": 38,
            "defaultErrno": "ENOSYS",
            "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": None},
                        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["x"]}],
            "syscalls": [
                {"name": "mkdir", "action": "SCMP_ACT_ERRNO", "args": [], "comment": "old form"},
                {"names": ["a", "b"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "args": [
                    {"index": 1, "value": 2**64 - 1, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}]},
            ],
        }
    )  # fmt: skip
    assert made == {
        "defaultAction": "SCMP_ACT_ALLOW",
        "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"},
            {"names": ["a", "b"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "args": [
                {"index": 1, "value": 2**64 - 1, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}]},
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "applies"),
    [
        ({}, True),
        ({"includes": {}, "excludes": None}, True),
        ({"includes": {"caps": ["CAP_A"]}}, True),
        ({"includes": {"caps": ["CAP_A", "CAP_B"]}}, False),
        ({"excludes": {"caps": ["CAP_B", "CAP_A"]}}, False),
        ({"excludes": {"caps": ["CAP_B"]}}, True),
        ({"includes": {"arches": ["amd64"]}}, True),
        ({"includes": {"arches": ["arm64"]}}, False),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "6.1"}}, True),
        ({"includes": {"minKernel": "6.2"}}, False),
        ({"excludes": {"minKernel": "6.1"}}, False),
        ({"excludes": {"minKernel": "6.2"}}, True),
        ({"includes": {"caps": ["CAP_A"], "arches": ["arm64"]}}, False),
    ],
)
def test_a_rule_holds_where_all_its_conditions_do(rule: dict, applies: bool) -> None:
    rule = {"names": ["x"], "action": "SCMP_ACT_ALLOW", **rule}
    made = of({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}, "CAP_A")
    assert bool(made["syscalls"]) is applies


RULE = {"names": ["x"], "action": "SCMP_ACT_ALLOW"}


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ("", "will not do"),
        ("[]", "will not do"),
        ("[" * 100000, "will not do"),
        ({}, "defaultAction"),
        ({"defaultAction": "ALLOW"}, "ALLOW"),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "NOTIFY"),
        ({"syscalls": [{"names": ["x"]}]}, "action"),
        ({"syscalls": [{"action": "SCMP_ACT_ALLOW"}]}, "either a name or names"),
        ({"syscalls": [{**RULE, "name": "y"}]}, "either a name or names"),
        ({"syscalls": "all"}, "syscalls"),
        ({"syscalls": [{**RULE, "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}, "<= 5"),
        ({"syscalls": [{**RULE, "args": [{"index": 0, "value": 0, "op": "=="}]}]}, "=="),
        ({"syscalls": [{**RULE, "args": [{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}]}]}, ">="),
        ({"syscalls": [{**RULE, "args": [{"index": 0, "value": 2**64, "op": "SCMP_CMP_EQ"}]}]},
         "larger"),
        ({"architectures": ["a"], "archMap": [{"architecture": "b"}]}, "either architectures or"),
        ({"syscalls": [{**RULE, "includes": {"minKernel": "new"}}]}, "'new' is no version"),
    ],
)  # fmt: skip
def test_a_profile_that_will_not_do_is_refused_in_a_line(profile, message: str) -> None:
    if isinstance(profile, dict) and profile and "defaultAction" not in profile:
        profile = {"defaultAction": "SCMP_ACT_ERRNO", **profile}
    text = profile if isinstance(profile, str) else json.dumps(profile)
    with pytest.raises(RunError, match=message) as raised:
        seccomp(text, (), architecture="amd64", kernel=KERNEL)
    assert "\n" not in str(raised.value)
