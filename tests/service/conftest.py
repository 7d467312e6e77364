"""Fixtures of the service tests."""

import pytest
from service_running import running


@pytest.fixture(scope="session")
def service():
    """A service that takes 2 MB and a megapixel; for tests that do not hold or break its engine."""
    with running() as started:
        yield started


@pytest.fixture(scope="session")
def client(service):
    return service.client
