"""What waits for the network, in order."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from roadseg.images import DecodedImage
from roadseg.inference.options import InferenceOptions
from roadseg.inference.predictor import Predictor
from roadseg.inference.result import SegmentationResult

Bucket = tuple[object, ...]


@dataclass(eq=False)
class Job:
    """One image that waits for the network.

    Attributes:
        predictor: what segments it; fixed when the request came, whatever model is served by then.
        image: what is segmented.
        confidence: whether its confidence is wanted.
        options: in place of the predictor's own.
        deadline: on `time.monotonic`'s clock, after which nobody waits for it.
        result: where its outcome goes.
        queued: when it came, on the same clock.
        began: when the batch that it is in began to run; None before.
        ended: when it had its outcome from the network; None before.
        size: (H, W) of the image.
        bucket: jobs that agree in this may run together.
    """

    predictor: Predictor
    image: DecodedImage
    confidence: bool = False
    options: InferenceOptions | None = None
    deadline: float = math.inf
    result: "Future[SegmentationResult]" = field(default_factory=Future)
    queued: float = field(default_factory=time.monotonic)
    began: float | None = None
    ended: float | None = None
    size: tuple[int, int] = field(init=False)
    bucket: Bucket = field(init=False)

    def __post_init__(self) -> None:
        """Work out the bucket, here rather than under the queue's lock."""
        height, width = self.image.pixels.shape[:2]
        self.size = height, width
        self.bucket = id(self.predictor), self.size, self.confidence, self.options

    @property
    def queue_s(self) -> float:
        """Seconds for which it waited, until now or until it began."""
        return (time.monotonic() if self.began is None else self.began) - self.queued

    @property
    def network_s(self) -> float:
        """Seconds for which its batch ran, until now or until it had its outcome; 0 before it began."""
        if self.began is None:
            return 0.0
        return (time.monotonic() if self.ended is None else self.ended) - self.began

    def succeed(self, result: SegmentationResult) -> None:
        """Give the result of a job that runs."""
        self.ended = time.monotonic()
        self.result.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Give an error in place of a result; a job that waits and was cancelled, or has an outcome, keeps that."""
        if self.result.done() or not (self.result.running() or self.result.set_running_or_notify_cancel()):
            return
        self.ended = time.monotonic()
        self.result.set_exception(error)


class JobQueue:
    """Jobs in the order in which they came, and by bucket; not for more than one thread at once.

    Every step takes the same time however many jobs wait, but for one: with a patience above 0 the buckets are gone
    through.
    """

    def __init__(self) -> None:
        """Begin empty."""
        # Ordered dictionaries as ordered sets: any job can leave, and the first is found at once.
        self._jobs: OrderedDict[Job, None] = OrderedDict()
        self._buckets: dict[Bucket, OrderedDict[Job, None]] = {}

    def __len__(self) -> int:
        """How many wait."""
        return len(self._jobs)

    @property
    def oldest(self) -> Job | None:
        """The job that has waited for longest; None when none waits."""
        return next(iter(self._jobs), None)

    def add(self, job: Job) -> None:
        """Put a job last."""
        self._jobs[job] = None
        self._buckets.setdefault(job.bucket, OrderedDict())[job] = None

    def discard(self, job: Job) -> None:
        """Take a job out, if it is in."""
        if job not in self._jobs:
            return
        del self._jobs[job]
        bucket = self._buckets[job.bucket]
        del bucket[job]
        if not bucket:
            del self._buckets[job.bucket]

    def clear(self) -> list[Job]:
        """Take out all."""
        jobs = list(self._jobs)
        self._jobs.clear()
        self._buckets.clear()
        return jobs

    def next(self, largest: Callable[[Job], int], wait_s: float) -> tuple[list[Job], float]:
        """Take out the jobs to run next: the oldest job's bucket, unless that may wait and another is full.

        Args:
            largest: how many like a job may run together.
            wait_s: how long a job waits for others like it.

        Returns:
            The jobs, oldest first; or none, and the seconds until there will be some if no other job comes, infinite
            when none waits.
        """
        if not self._jobs:
            return [], math.inf
        if wait_s <= 0:
            return self._take(next(iter(self._jobs)), largest), 0.0
        first = [next(iter(bucket)) for bucket in self._buckets.values()]
        now = time.monotonic()
        ready = [job for job in first if _due(job, wait_s) <= now or len(self._buckets[job.bucket]) >= largest(job)]
        if ready:
            return self._take(min(ready, key=lambda job: job.queued), largest), 0.0
        return [], min(_due(job, wait_s) for job in first) - now

    def _take(self, first: Job, largest: Callable[[Job], int]) -> list[Job]:
        most = largest(first)
        jobs = [job for job, _ in zip(self._buckets[first.bucket], range(most), strict=False)]
        for job in jobs:
            self.discard(job)
        return jobs


def _due(job: Job, wait_s: float) -> float:
    """When a job no longer waits for others."""
    return min(job.queued + wait_s, job.deadline - wait_s)
