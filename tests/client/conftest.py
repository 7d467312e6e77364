"""Fixtures of the client's tests: a running service, which the service's own tests know how to start."""

import sys
from pathlib import Path

import pytest

# The service's test modules import each other by bare names, as pytest puts their folder on the path for them.
sys.path.append(str(Path(__file__).parents[1] / "service"))


@pytest.fixture(scope="session")
def service():
    from service_running import running

    with running() as started:
        yield started


@pytest.fixture
def url(service):
    return f"http://127.0.0.1:{service.port}"
