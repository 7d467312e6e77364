"""Scenes that several modules look at."""

import pytest

from roadseg.data.synthetic import (
    Scene,
    render_scene,
)


@pytest.fixture(scope="session")
def scenes() -> list[Scene]:
    """The scenes of seeds 0 to 63."""
    return [render_scene(seed, (256, 384)) for seed in range(64)]
