"""Models of the paper's form alone."""

import pytest

from headlift.model.perchead.config import PercHeadConfig


@pytest.fixture
def config(paper_config: PercHeadConfig) -> PercHeadConfig:
    return paper_config
