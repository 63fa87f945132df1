"""The log that conmon writes, read from any line on."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegraph import running
from runtime import logs
from runtime.errors import RunError

STAMP = "2024-05-01T10:00:00.000000001+00:00"
LINES = st.lists(
    st.tuples(
        st.sampled_from(["stdout", "stderr"]),
        st.sampled_from("FP"),
        st.text(alphabet="ab F", max_size=30),
    ),
    max_size=40,
)


def _write(root: Path, lines: list[tuple[str, str, str]]) -> None:
    directory = Path(running.kept(str(root), "x"))
    directory.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{STAMP} {stream} {kind} {said}\n" for stream, kind, said in lines)
    (directory / running.LOG).write_text(text)


def _read(root: Path, tail: int | None = None) -> list[bytes]:
    return [record.data for record in logs.read(str(root), "x", tail=tail)]


@given(LINES, st.integers(0, 20), st.sampled_from([1, 7, 64, 1 << 16]))
def test_the_tail_is_the_end_of_all_from_a_whole_line_on(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[tuple[str, str, str]],
    count: int,
    block: int,
):
    root = tmp_path_factory.mktemp("log")
    _write(root, lines)
    whole = _read(root)
    before, logs._BLOCK = logs._BLOCK, block
    try:
        tail = _read(root, count)
    finally:
        logs._BLOCK = before
    ends = [number for number, data in enumerate(whole, 1) if data.endswith(b"\n")]
    first = ends[-count - 1] if len(ends) > count else 0
    assert tail == whole[first:]


def test_a_container_that_never_ran_has_none(tmp_path: Path):
    assert _read(tmp_path) == []


def test_what_conmon_did_not_write_is_damage(tmp_path: Path):
    _write(tmp_path, [("stdout", "F", "x")])
    Path(running.kept(str(tmp_path), "x"), running.LOG).write_text("moo\n")
    with pytest.raises(RunError, match="damaged"):
        _read(tmp_path)
