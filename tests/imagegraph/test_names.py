"""Container names: Docker's rule, and the ones that are made up."""

import pytest

from imagegraph.names import random_name, valid


@pytest.mark.parametrize("name", ["ab", "0a", "web-1", "web_1.2", "A_", "a" * 300])
def test_names_that_docker_takes_are_valid(name):
    assert valid(name)


@pytest.mark.parametrize(
    "name", ["", "a", "-a", ".a", "_a", "a/b", "a b", "ab\n", "ab\0", "ä1", "a٣", "..", "a\udcff"]
)
def test_names_that_docker_refuses_are_not_valid(name):
    assert not valid(name)


def test_a_made_up_name_is_an_adjective_and_a_breed():
    for _ in range(200):
        name = random_name()
        assert valid(name)
        assert len(name.split("_")) == 2
        assert name.replace("_", "").isalpha() and name.islower()


def test_made_up_names_rarely_repeat():
    assert len({random_name() for _ in range(100)}) > 90
