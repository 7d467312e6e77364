"""Fixtures of the service tests."""

import pytest
from page_driving import chromium, page_service, tab, visit  # noqa: F401  fixtures
from service_running import running


@pytest.fixture(scope="session")
def service():
    """A service that takes 2 MB and a megapixel; for tests that do not hold or break its engine."""
    with running() as started:
        yield started


@pytest.fixture(scope="session")
def client(service):
    return service.client


class Hands:
    """A clock that is set by hand."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Hands()
