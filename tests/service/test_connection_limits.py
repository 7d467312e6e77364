"""How many connections the limit of open files allows, and which ones give way."""

import logging
import resource

import pytest

from roadseg.errors import ConfigError
from roadseg_service.connections import Connections
from roadseg_service.descriptors import RESERVED, raise_limit

INFINITE = resource.RLIM_INFINITY


@pytest.fixture
def limits(monkeypatch):
    """Limits of open files that are this process' only in name: [soft, hard]."""
    limits = [1024, 4096]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.__setitem__(slice(None), new))
    return limits


@pytest.mark.parametrize(
    ("before", "wanted", "soft", "allowed"),
    [
        ((1024, 4096), 500, 1024, 500),
        ((1024, 4096), 1000, 1000 + RESERVED, 1000),
        ((1024, 4096), 5000, 4096, 4096 - RESERVED),
        ((1024, 1024), 1000, 1024, 1024 - RESERVED),
        ((1024, INFINITE), 5000, 5000 + RESERVED, 5000),
        ((INFINITE, INFINITE), 5000, INFINITE, 5000),
        ((RESERVED + 1, RESERVED + 1), 1000, RESERVED + 1, 1),
    ],
)
def test_the_limit_is_raised_as_far_as_needed_and_allowed(limits, before, wanted, soft, allowed):
    limits[:] = before
    assert raise_limit(wanted) == allowed
    assert limits == [soft, before[1]]


def test_a_limit_that_leaves_no_connection_ends_the_start(limits):
    limits[:] = (64, RESERVED)
    with pytest.raises(ConfigError, match=rf"the limit of open files is {RESERVED}; .* raise it \(ulimit -n\)"):
        raise_limit(1000)


def test_a_system_that_allows_less_than_it_says(limits, monkeypatch):
    def refuse(_, new):
        raise ValueError("not allowed to raise maximum limit")

    limits[:] = (1024, INFINITE)
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_limit(5000) == 1024 - RESERVED


class Peer:
    """A connection of nobody."""

    def __init__(self, address):
        self.client = (address, 1)
        self.ended = 0

    def give_way(self):
        self.ended += 1


def test_the_idle_give_way_in_order_and_the_busy_do_not(caplog):
    places = Connections(3)
    first, second, third, fourth, fifth, sixth = (Peer(f"10.0.0.{i // 2}") for i in range(6))
    assert all(places.take(peer) for peer in (first, second, third))
    places.note(first, busy=True)
    places.note(second, busy=False)  # it was idle before
    assert places.take(fourth)
    assert [peer.ended for peer in (first, second, third, fourth)] == [0, 1, 0, 0]
    places.note(second, busy=False)  # its last bytes: it has no place any more
    places.note(first, busy=False)
    assert places.take(fifth)
    assert [peer.ended for peer in (first, third, fourth)] == [0, 1, 0]
    for peer in (first, fourth, fifth):
        places.note(peer, busy=True)
    assert not places.take(sixth)
    assert (places.open, places.evicted, places.refused) == (3, 2, 1)
    places.lost(second)  # long gone
    places.lost(first)
    assert places.take(sixth)
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told.startswith("all 3 connections are taken, 2 of them idle; 2 are of 10.0.0.0")
