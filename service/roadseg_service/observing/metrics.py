"""The service's metrics, in a registry of their own: several applications of one process do not mix."""

from collections.abc import Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

from roadseg import __version__
from roadseg_service import problems
from roadseg_service.problems import ProblemKind
from roadseg_service.scheduling.jobs import Job

PHASES = ("upload", "decode", "queue", "network", "encode", "total")

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Upper ends of the latencies' buckets: a decoded thumbnail to the slowest upload."""

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

OTHER = "other"
"""Stands for every path without a route, and every method that is not in `METHODS`: clients choose them, and each value
of a label is kept in memory for ever."""

ABORTED = "aborted"
"""In place of a status, where nothing was answered."""


class Metrics:
    """What is counted as requests come and go; what can be read at any time is in `ServiceCollector`.

    Attributes:
        registry: holds all of them.
    """

    def __init__(self) -> None:
        """Begin at zero, with a series for every reason and phase: a rate needs the zero before the first one."""
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self._make_instruments()
        build = Gauge("roadseg_build_info", "1; the version is a label.", ["version"], registry=self.registry)
        build.labels(__version__).set(1)
        for reason in sorted({kind.slug for kind in vars(problems).values() if isinstance(kind, ProblemKind)}):
            self.rejections.labels(reason)
            self.file_rejections.labels(reason)
        for phase in PHASES:
            self.phase_seconds.labels(phase)

    def _make_instruments(self) -> None:
        registry = self.registry
        self.requests = Counter(
            "roadseg_requests",
            "Requests that ended, by route, method and status; 499: the client left; aborted: without an answer.",
            ["route", "method", "status"],
            registry=registry,
        )
        self.in_flight = Gauge(
            "roadseg_requests_in_flight", "Requests that have begun and not ended, this scrape too.", registry=registry
        )
        self.rejections = Counter(
            "roadseg_rejections",
            "Requests answered with a problem, by its kind.",
            ["reason"],
            registry=registry,
        )
        self.file_rejections = Counter(
            "roadseg_batch_file_rejections",
            "Files of batches that were answered with a problem, by its kind.",
            ["reason"],
            registry=registry,
        )
        self.phase_seconds = Histogram(
            "roadseg_phase_seconds",
            "Time of each step of segmentation requests; total: from the request's headers to the answer's end.",
            ["phase"],
            buckets=SECONDS,
            registry=registry,
        )
        self.batch_size = Histogram(
            "roadseg_batch_size", "Images that ran together.", buckets=BATCH_SIZES, registry=registry
        )
        self.batch_seconds = Histogram(
            "roadseg_batch_seconds", "Time that the device was given to a batch.", buckets=SECONDS, registry=registry
        )
        self.model_changes = Counter(
            "roadseg_model_changes",
            "Attempts to load or change the model: by what they were asked, and how they ended.",
            ["trigger", "outcome"],
            registry=registry,
        )

    def phase(self, phase: str, seconds: float, ended: float) -> None:
        """Count a step of a request; when it ended does not matter here."""
        self.phase_seconds.labels(phase).observe(seconds)

    def batch(self, jobs: Sequence[Job], seconds: float) -> None:
        """Count a batch; called by the device's threads."""
        self.batch_size.observe(len(jobs))
        self.batch_seconds.observe(seconds)

    def model_change(self, trigger: str, outcome: str) -> None:
        """Count an attempt to load or change the model."""
        self.model_changes.labels(trigger, outcome).inc()

    def ended(self, route: str | None, method: str, status: int | None, problem: str | None) -> None:
        """Count a request.

        Args:
            route: the route's template; None where there is none.
            method: as the client wrote it.
            status: of the answer; None where there was none.
            problem: its slug, where it was one.
        """
        known = method if method in METHODS else OTHER
        self.requests.labels(route or OTHER, known, ABORTED if status is None else str(status)).inc()
        if problem is not None:
            self.rejections.labels(problem).inc()
