"""What is wrong with a command, by what crun and runc say of it."""

from pathlib import Path

import pytest

from runtime.errors import CommandNotFound, NotExecutable, RunError, not_started
from tests.runtime.bundles import RUNTIMES, runner


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    ("command", "kind", "status"),
    [
        ("nonexistent", CommandNotFound, 127),
        ("/non/existent", CommandNotFound, 127),
        ("/etc/passwd", NotExecutable, 126),
        ("/etc", NotExecutable, 126),
    ],
)
def test_a_command_that_cannot_be_run_has_dockers_exit_status(
    tmp_path: Path, runtime: str, command: str, kind: type[RunError], status: int
) -> None:
    with runner(runtime, tmp_path) as engine:
        said = engine.run({}, {}, command)
    assert said.status != 0
    error = not_started(said.errors.strip().splitlines()[-1])
    assert type(error) is kind and error.status == status


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_any_other_reason_is_the_containers(tmp_path: Path, runtime: str) -> None:
    profile = 'seccomp={"defaultAction":"SCMP_ACT_ALLOW","architectures":["nonsense"]}'
    with runner(runtime, tmp_path) as engine:
        said = engine.run({"SecurityOpt": [profile]}, {}, "true")
    assert said.status != 0
    error = not_started(said.errors.strip().splitlines()[-1])
    assert type(error) is RunError and error.status == 125
