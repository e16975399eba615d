"""Models of mini's form alone."""

import pytest

from headlift.model.mini.config import MiniConfig


@pytest.fixture
def config(mini_config: MiniConfig) -> MiniConfig:
    return mini_config
