"""Which runtime is taken, and what is said where there is none."""

import pytest

from runtime import engine
from runtime.errors import RunError


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (None, "no crun and no runc is here: install the Debian package crun (or runc)"),
        ("crun", "no crun is here: install the Debian package crun"),
        ("runc", "no runc is here: install the Debian package runc"),
    ],
)
def test_a_host_without_a_runtime_is_told_the_package(
    monkeypatch: pytest.MonkeyPatch, name: str | None, said: str
):
    monkeypatch.setattr(engine, "_PATH", "/nonexistent")
    with pytest.raises(RunError) as raised:
        engine.find(name)
    assert (str(raised.value), raised.value.status) == (said, 125)


def test_a_host_without_conmon_is_told_the_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine, "_PATH", "/nonexistent")
    with pytest.raises(RunError, match="no conmon is here: install the Debian package conmon"):
        engine.monitor()


def test_another_runtime_is_refused():
    with pytest.raises(RunError, match="there is no runtime kata: take crun or runc"):
        engine.find("kata")


def test_the_error_in_a_log_of_runc_is_read():
    text = 'time="2024-01-01T00:00:00Z" level=error msg="exec: \\"x\\": not found in $PATH"\n'
    assert engine.reason(text) == 'exec: "x": not found in $PATH'
    assert engine.reason("\n") == "it failed and did not say why"
