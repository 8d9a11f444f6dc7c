"""The embedded servers as a world that the torture may be cruel to."""

import pytest

from torture.world import World


@pytest.fixture
def world(request, servers, stack_home) -> World:
    if request.config.getoption("--stack") != "embedded":
        pytest.skip("the torture works on the embedded servers")
    return World(stack_home, servers)
