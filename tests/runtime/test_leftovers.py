"""What `check` takes for the run of a container that is gone, and what it must not."""

import os
from pathlib import Path

import pytest

from imagegraph import running
from imagegraph.model import Container
from imagegraph.store import Store
from runtime.leftovers import leftovers
from tests.conftest import require
from tests.store.scenes import add_image


@pytest.fixture
def store(tmp_path: Path):
    require("root")
    with Store.init(str(tmp_path / "root"), backend="vfs") as opened:
        yield opened


def _run_of(store: Store, container: Container) -> None:
    os.makedirs(running.kept(store.root, container.id))


def test_the_run_of_a_container_that_is_gone_is_ended(store: Store):
    [cow] = store.create(add_image(store, {}, "base:1"))
    store.remove_container(cow)
    _run_of(store, cow)
    assert [problem.where for problem in leftovers(store)] == [f"runs/{cow.id}"]
    assert leftovers(store, repair=True)[0].repaired
    assert leftovers(store) == []


def test_a_container_that_is_made_and_started_meanwhile_is_left_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    image = add_image(store, {}, "base:1")
    read = running.runs

    def and_then_one_more(root: str) -> list[str]:
        _run_of(store, store.create(image)[0])
        return read(root)

    monkeypatch.setattr(running, "runs", and_then_one_more)
    assert leftovers(store, repair=True) == []


def test_a_container_that_is_being_removed_is_left_to_who_removes_it(store: Store):
    [cow] = store.create(add_image(store, {}, "base:1"))
    _run_of(store, cow)
    with store.graph.writing():
        assert store.graph.doom_container(cow.id, store.owner.token)
    assert leftovers(store, repair=True) == []
