"""What runs together, in which order, and what a failure costs: a predictor that writes down what it was given."""

import asyncio
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from roadseg.errors import EngineError, ImageSizeError
from roadseg.images import DecodedImage
from roadseg.inference.options import InferenceOptions
from roadseg_service.problems import ProblemError
from roadseg_service.scheduling.batching import Batcher
from roadseg_service.scheduling.device_watch import DeviceWatch
from roadseg_service.scheduling.jobs import Job, JobQueue


def image_of(number, size=(4, 4)):
    pixels = np.full((*size, 3), number, np.uint8)
    return DecodedImage(pixels, "PNG", 1, "displayed")


@dataclass(eq=False)
class Recording:
    """Answers with the number that the image shows; may be held, and fails as it is told."""

    device: str = "gpu"
    streams: int = 1
    batches: bool = True
    ran: list = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)
    fail: object = None

    def __post_init__(self):
        """Begin open."""
        self.gate.set()

    @property
    def engine(self):
        return SimpleNamespace(device=self.device, streams=self.streams, batches=self.batches)

    def batch(self, images, *, confidence, options):
        numbers = [int(image.pixels[0, 0, 0]) for image in images]
        self.entered.set()
        assert self.gate.wait(30)
        self.ran.append(numbers)
        if self.fail is not None:
            self.fail(numbers)
        return [f"result {number}" for number in numbers]


@pytest.fixture
def predictor():
    return Recording()


@contextmanager
def batching(**options):
    batcher = Batcher(**options)
    try:
        yield batcher
    finally:
        batcher.close()


async def settle(tasks):
    return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)


def run_behind_one(batcher, predictor, jobs, meanwhile=None):
    """Hold the device with image 0 until all jobs wait; gives what each came to."""

    async def run():
        predictor.gate.clear()
        predictor.entered.clear()
        first = asyncio.create_task(batcher.predict(Job(predictor, image_of(0, (1, 1)))))
        await asyncio.to_thread(predictor.entered.wait, 30)
        tasks = []
        for job in jobs:
            tasks.append(asyncio.create_task(batcher.predict(job)))
            await asyncio.sleep(0)
        assert batcher.waiting == len(jobs)
        if meanwhile is not None:
            await meanwhile(tasks)
        predictor.gate.set()
        outcomes = await settle(tasks)
        assert await first == "result 0"
        return outcomes

    return asyncio.run(run())


def alone(batcher, job):
    async def run():
        return await asyncio.wait_for(batcher.predict(job), 30)

    return asyncio.run(run())


def test_jobs_of_a_size_run_together_oldest_first_and_nobody_starves(predictor):
    sizes = [(4, 4), (4, 6), (4, 4), (8, 8), (4, 6), (4, 4), (4, 4), (4, 4)]
    with batching(max_batch=3) as batcher:
        jobs = [Job(predictor, image_of(i, size)) for i, size in enumerate(sizes, 1)]
        outcomes = run_behind_one(batcher, predictor, jobs)
    assert outcomes == [f"result {i}" for i in range(1, 9)]
    assert predictor.ran == [[0], [1, 3, 6], [2, 5], [4], [7, 8]]


def test_what_differs_in_more_than_the_size_runs_apart(predictor):
    other = Recording()
    options = InferenceOptions(min_confidence=0.5)
    with batching(max_batch=8) as batcher:
        jobs = [
            Job(predictor, image_of(1)),
            Job(other, image_of(2)),
            Job(predictor, image_of(3), confidence=True),
            Job(predictor, image_of(4), options=options),
            Job(predictor, image_of(5), options=InferenceOptions(min_confidence=0.5)),
            Job(predictor, image_of(6)),
        ]
        run_behind_one(batcher, predictor, jobs)
    assert predictor.ran == [[0], [1, 6], [3], [4, 5]]
    assert other.ran == [[2]]


@pytest.mark.parametrize(("device", "sizes"), [("cpu", [1, 1, 1]), ("cuda:0", [3])])
def test_without_a_setting_a_cpu_takes_one_at_a_time(device, sizes):
    predictor = Recording(device)
    with batching() as batcher:
        run_behind_one(batcher, predictor, [Job(predictor, image_of(i)) for i in (1, 2, 3)])
    assert [len(numbers) for numbers in predictor.ran[1:]] == sizes


def poison(*bad):
    def fail(numbers):
        if set(bad) & set(numbers):
            raise RuntimeError(f"poisoned by {bad}")

    return fail


class Streaming(Recording):
    """Tells how many batches it works on, and holds one image for as long as the gate is closed.

    With `meet`, batches wait for one another until as many run as there are streams: that is no matter of chance.
    """

    def __init__(self, streams, held=None, *, meet=False):
        super().__init__("cpu", streams)
        self.held, self.at_once, self.most = held, 0, 0
        self.meeting = threading.Barrier(streams) if meet else None
        self.lock = threading.Lock()

    def batch(self, images, *, confidence, options):
        (number,) = (int(image.pixels[0, 0, 0]) for image in images)
        with self.lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        if number == self.held:
            self.entered.set()
            assert self.gate.wait(30)
        if self.meeting is not None:
            self.meeting.wait(30)
        time.sleep(0.02)  # one more than the streams would come now
        with self.lock:
            self.at_once -= 1
        return [f"result {number}"]


@pytest.mark.parametrize("streams", [1, 2, 3])
def test_as_many_batches_run_at_once_as_the_engine_has_streams_and_each_gets_its_own_result(streams):
    predictor = Streaming(streams, meet=True)

    async def run():
        return await settle([batcher.predict(Job(predictor, image_of(i))) for i in range(12)])

    with batching() as batcher:
        assert asyncio.run(run()) == [f"result {i}" for i in range(12)]
    assert predictor.most == streams


def test_a_model_of_fewer_streams_gets_no_more_batches_at_once_whatever_ran_before():
    """Threads that a model with more streams left behind; and back again."""
    for_four, for_one = Streaming(4, meet=True), Streaming(1)

    async def run(*predictors):
        jobs = [Job(predictor, image_of(i)) for i in range(8) for predictor in predictors]
        return await settle([batcher.predict(job) for job in jobs])

    def most_in(*predictors):
        for_four.most = for_one.most = 0
        outcomes = asyncio.run(run(*predictors))
        assert all(isinstance(outcome, str) for outcome in outcomes) and len(outcomes) == 8 * len(predictors)
        return for_four.most, for_one.most

    with batching() as batcher:
        assert most_in(for_four) == (4, 0)
        assert most_in(for_one) == (0, 1)
        assert most_in(for_four) == (4, 0)
        for_four.meeting = None  # the two models share the device, and need not meet
        assert most_in(for_four, for_one)[1] == 1


def test_engines_that_run_images_one_by_one_get_them_one_by_one():
    predictor = Recording("gpu.1", batches=False)
    with batching(max_batch=8) as batcher:
        run_behind_one(batcher, predictor, [Job(predictor, image_of(i)) for i in (1, 2, 3)])
    assert predictor.ran == [[0], [1], [2], [3]]


def test_a_stream_that_hangs_leaves_the_others_and_the_watch_tells_of_it(clock):
    predictor, watch = Streaming(2, held=0), DeviceWatch(30, clock)

    async def run():
        predictor.gate.clear()
        first = asyncio.create_task(batcher.predict(Job(predictor, image_of(0))))
        await asyncio.to_thread(predictor.entered.wait, 30)
        clock.now += 1000
        others = await settle([batcher.predict(Job(predictor, image_of(i))) for i in (1, 2, 3)])
        assert watch.hung and watch.age_s == 1000
        predictor.gate.set()
        return [await asyncio.wait_for(first, 30), *others]

    with batching(watch=watch) as batcher:
        assert asyncio.run(run()) == [f"result {i}" for i in range(4)]
    assert watch.age_s == 0


def test_a_further_thread_that_cannot_be_started_leaves_the_work_to_those_there_are(monkeypatch):
    predictor, started, start = Streaming(3), [], threading.Thread.start

    def starting(thread):
        if thread.name == "roadseg-network":
            started.append(thread)
            if len(started) > 1:
                raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starting)

    async def run():
        return await settle([batcher.predict(Job(predictor, image_of(i))) for i in range(5)])

    with batching() as batcher:
        assert asyncio.run(run()) == [f"result {i}" for i in range(5)]
    assert predictor.most == 1 and len(started) > 1


@pytest.mark.parametrize("bad", range(1, 9))
def test_a_poison_pill_in_a_batch_of_eight_fails_alone(predictor, bad):
    predictor.fail = poison(bad)
    with batching(max_batch=8) as batcher:
        outcomes = run_behind_one(batcher, predictor, [Job(predictor, image_of(i)) for i in range(1, 9)])
    assert predictor.ran[1] == list(range(1, 9))
    for i, outcome in enumerate(outcomes, 1):
        if i != bad:
            assert outcome == f"result {i}"
            continue
        assert isinstance(outcome, ProblemError)
        assert outcome.kind.status == 500
        assert "poisoned" not in outcome.detail
        assert "poisoned" in str(outcome.__cause__)
    assert len(predictor.ran) == 1 + 1 + 3 * 2  # the batch, and two halves on each of three levels


def test_when_all_fail_each_has_its_own_problem_and_the_next_is_served(predictor):
    predictor.fail = poison(*range(1, 256))
    with batching(max_batch=8) as batcher:
        outcomes = run_behind_one(batcher, predictor, [Job(predictor, image_of(i)) for i in range(1, 9)])
        assert [outcome.kind.status for outcome in outcomes] == [500] * 8
        assert len({id(outcome) for outcome in outcomes}) == 8
        predictor.fail = None
        assert alone(batcher, Job(predictor, image_of(9))) == "result 9"


def memory_for(most):
    def fail(numbers):
        if len(numbers) > most:
            raise RuntimeError(f"CUDA out of memory. Tried to allocate {len(numbers)} GiB")

    return fail


def test_out_of_memory_halves_and_is_remembered(predictor):
    predictor.fail = memory_for(2)
    with batching(max_batch=8) as batcher:
        first = run_behind_one(batcher, predictor, [Job(predictor, image_of(i)) for i in range(1, 9)])
        assert first == [f"result {i}" for i in range(1, 9)]
        assert [len(numbers) for numbers in predictor.ran] == [1, 8, 4, 2, 2, 2, 2]  # not 4 twice
        predictor.ran.clear()
        second = run_behind_one(batcher, predictor, [Job(predictor, image_of(i)) for i in range(1, 9)])
        assert second == first
        assert [len(numbers) for numbers in predictor.ran] == [1, 2, 2, 2, 2]
        predictor.ran.clear()
        run_behind_one(batcher, predictor, [Job(predictor, image_of(i, (4, 6))) for i in range(1, 9)])
        assert [len(numbers) for numbers in predictor.ran][:2] == [1, 8]  # another size may fit


def test_what_does_not_fit_alone_is_a_problem_with_a_time_to_try_again(predictor):
    predictor.fail = memory_for(0)
    with batching(max_batch=8) as batcher, pytest.raises(ProblemError) as caught:
        alone(batcher, Job(predictor, image_of(1, (20, 30))))
    assert (caught.value.kind.status, caught.value.headers) == (503, {"Retry-After": "1"})
    assert "30x20 pixels" in caught.value.detail


def test_a_size_that_the_model_does_not_take_is_the_clients_error(predictor):
    def fail(numbers):
        raise ImageSizeError("the image is 4x4; this model takes 8x8")

    predictor.fail = fail
    with batching() as batcher, pytest.raises(ProblemError, match="takes 8x8") as caught:
        alone(batcher, Job(predictor, image_of(1)))
    assert caught.value.kind.status == 422


class Panic(BaseException):
    """As those of runtimes written in Rust are."""


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), Panic(), MemoryError(), GeneratorExit()])
def test_nothing_that_a_network_raises_ends_the_thread(predictor, error):
    def fail(numbers):
        raise error

    predictor.fail = fail
    with batching() as batcher:
        with pytest.raises(ProblemError):
            alone(batcher, Job(predictor, image_of(1)))
        predictor.fail = None
        assert alone(batcher, Job(predictor, image_of(2))) == "result 2"


class Unprintable(RuntimeError):
    def __str__(self):
        """Fail."""
        raise ValueError("no words")


def test_an_error_that_cannot_be_printed_is_a_problem_too(predictor):
    def fail(numbers):
        raise Unprintable

    predictor.fail = fail
    with batching() as batcher:
        with pytest.raises(ProblemError, match="log has the details"):
            alone(batcher, Job(predictor, image_of(1)))
        predictor.fail = None
        assert alone(batcher, Job(predictor, image_of(2))) == "result 2"


def test_too_few_results_are_an_error_and_nobody_gets_anothers(predictor):
    class Short(Recording):
        def batch(self, images, **options):
            return super().batch(images, **options)[1:]

    short = Short()
    with batching(max_batch=4) as batcher:
        outcomes = run_behind_one(batcher, predictor, [Job(short, image_of(i)) for i in (1, 2, 3)])
    assert [outcome.kind.status for outcome in outcomes] == [500] * 3
    assert isinstance(outcomes[0].__cause__, EngineError)


@pytest.mark.parametrize("error", [ValueError("metrics are broken"), SystemExit(1)])
def test_an_observer_that_raises_costs_nothing(predictor, caplog, error):
    def observe(jobs, seconds):
        raise error

    with batching(observe=observe) as batcher:
        assert alone(batcher, Job(predictor, image_of(1))) == "result 1"
        assert alone(batcher, Job(predictor, image_of(2))) == "result 2"
    assert "which goes on" in caplog.text


def test_a_log_that_raises_costs_nothing(predictor, monkeypatch):
    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("roadseg_service.scheduling.batching.log.error", fail)
    with batching(observe=lambda jobs, seconds: 1 / 0) as batcher:
        assert alone(batcher, Job(predictor, image_of(1))) == "result 1"
        assert alone(batcher, Job(predictor, image_of(2))) == "result 2"


def test_memory_that_runs_out_in_the_bookkeeping_costs_one_batch(predictor, monkeypatch):
    with batching() as batcher:
        with monkeypatch.context() as patch:

            def fail(jobs):
                raise MemoryError

            patch.setattr(batcher, "_run", fail)
            with pytest.raises(ProblemError, match="log has the details"):
                alone(batcher, Job(predictor, image_of(1)))
        assert alone(batcher, Job(predictor, image_of(2))) == "result 2"


def test_an_outcome_that_is_there_already_is_kept(predictor):
    job = Job(predictor, image_of(1))
    job.result.set_running_or_notify_cancel()

    def fail(numbers):
        job.result.set_result("from elsewhere")
        raise RuntimeError

    predictor.fail = fail
    with batching() as batcher:
        other = Job(predictor, image_of(2))
        other.result = job.result
        batcher._run([other])
    assert job.result.result(0) == "from elsewhere"


def test_observer_is_told_of_all_jobs_of_a_batch_and_their_times(predictor):
    told = []
    with batching(max_batch=4, observe=lambda jobs, seconds: told.append((jobs, seconds))) as batcher:
        run_behind_one(batcher, predictor, [Job(predictor, image_of(i)) for i in (1, 2, 3)])
        deadline = time.monotonic() + 30
        while len(told) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert [len(jobs) for jobs, _ in told] == [1, 3]
    for job in told[1][0]:
        assert job.queued <= job.began <= job.ended
        assert 0 < job.queue_s < 30
        assert 0 <= job.network_s <= told[1][1]


def test_cancelled_jobs_never_reach_the_network_and_are_let_go_at_once(predictor):
    async def cancel(tasks):
        for task in tasks[1:3]:
            task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert batcher.waiting == 2

    with batching(max_batch=8) as batcher:
        jobs = [Job(predictor, image_of(i)) for i in (1, 2, 3, 4)]
        outcomes = run_behind_one(batcher, predictor, jobs, cancel)
    assert [type(outcome) for outcome in outcomes] == [str, asyncio.CancelledError, asyncio.CancelledError, str]
    assert predictor.ran == [[0], [1, 4]]


def test_expired_jobs_never_reach_the_network(predictor):
    async def wait(tasks):
        await asyncio.sleep(0.06)

    soon = time.monotonic() + 0.05
    with batching(max_batch=8) as batcher:
        jobs = [Job(predictor, image_of(i), deadline=soon if i < 3 else soon + 60) for i in (1, 2, 3)]
        outcomes = run_behind_one(batcher, predictor, jobs, wait)
    assert [type(outcome) for outcome in outcomes] == [TimeoutError, TimeoutError, str]
    assert predictor.ran == [[0], [3]]


def test_a_job_that_expires_while_its_batch_is_repeated_in_halves_is_dropped(predictor):
    soon = []

    def fail(numbers):
        if len(numbers) == 4:
            while time.monotonic() <= soon[0]:
                time.sleep(0.01)
            raise RuntimeError

    predictor.fail = fail
    with batching(max_batch=4) as batcher:
        soon.append(time.monotonic() + 1)
        jobs = [Job(predictor, image_of(i), deadline=soon[0] if i == 3 else float("inf")) for i in (1, 2, 3, 4)]
        outcomes = run_behind_one(batcher, predictor, jobs)
    assert [type(outcome) for outcome in outcomes] == [str, str, TimeoutError, str]
    assert predictor.ran == [[0], [1, 2, 3, 4], [1, 2], [4]]


def test_an_incomplete_batch_waits_for_others_and_not_longer(predictor):
    async def run(batcher):
        began = time.monotonic()
        first = asyncio.create_task(batcher.predict(Job(predictor, image_of(1))))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(batcher.predict(Job(predictor, image_of(2))))
        await settle([first, second])
        return time.monotonic() - began

    with batching(max_batch=8, wait_s=0.4) as batcher:
        assert 0.4 <= asyncio.run(run(batcher)) < 5
    assert predictor.ran == [[1, 2]]


def test_a_full_batch_does_not_wait_and_is_not_kept_by_an_older_incomplete_one(predictor):
    async def run(batcher):
        began = time.monotonic()
        lonely = asyncio.create_task(batcher.predict(Job(predictor, image_of(9, (8, 8)))))
        await asyncio.sleep(0)
        full = [asyncio.create_task(batcher.predict(Job(predictor, image_of(i)))) for i in (1, 2)]
        await settle(full)
        took = time.monotonic() - began
        assert not lonely.done()
        await settle([lonely])
        return took

    with batching(max_batch=2, wait_s=1.0) as batcher:
        assert asyncio.run(run(batcher)) < 1
    assert predictor.ran == [[1, 2], [9]]


def test_waiting_for_others_does_not_outlast_the_deadline(predictor):
    with batching(max_batch=2, wait_s=1.0) as batcher:
        assert alone(batcher, Job(predictor, image_of(1), deadline=time.monotonic() + 0.5)) == "result 1"


def test_closing_wakes_all_that_wait_and_lets_the_running_one_finish(predictor):
    async def run(batcher):
        predictor.gate.clear()
        running = asyncio.create_task(batcher.predict(Job(predictor, image_of(1))))
        await asyncio.to_thread(predictor.entered.wait, 30)
        waiting = [asyncio.create_task(batcher.predict(Job(predictor, image_of(i)))) for i in (2, 3)]
        await asyncio.sleep(0)
        batcher.close()
        outcomes = await settle([*waiting, asyncio.create_task(batcher.predict(Job(predictor, image_of(4))))])
        predictor.gate.set()
        return await running, outcomes

    with batching(max_batch=1) as batcher:
        first, rest = asyncio.run(run(batcher))
        assert first == "result 1"
        assert [(type(outcome), outcome.kind.status) for outcome in rest] == [(ProblemError, 503)] * 3
        assert batcher.waiting == 0
        for thread in batcher._threads:
            thread.join(10)
            assert not thread.is_alive()


def test_a_thread_that_cannot_be_started_is_an_error_once_and_nothing_is_left_behind(predictor, monkeypatch):
    def fail(_):
        raise RuntimeError("can't start new thread")

    with batching() as batcher:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fail)
            with pytest.raises(RuntimeError, match="can't start"):
                alone_in_this_thread(batcher, Job(predictor, image_of(1)))
        assert batcher.waiting == 0
        assert alone(batcher, Job(predictor, image_of(2))) == "result 2"


def alone_in_this_thread(batcher, job):
    coroutine = batcher.predict(job)
    coroutine.send(None)


def test_the_idle_thread_keeps_no_image_alive(predictor):
    import gc
    import weakref

    with batching() as batcher:
        job = Job(predictor, image_of(1))
        seen = weakref.ref(job)
        assert alone(batcher, job) == "result 1"
        del job
        deadline = time.monotonic() + 10
        while seen() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert seen() is None, gc.get_referrers(seen())


def seconds_to_empty(count, sizes):
    predictor = Recording()
    queue = JobQueue()
    for i in range(count):
        queue.add(Job(predictor, image_of(0, (1 + i % sizes, 1))))
    began = time.process_time()
    while queue.next(lambda job: 8, 0.0)[0]:
        pass
    return time.process_time() - began


@pytest.mark.parametrize("sizes", [1, 1000])
def test_a_long_queue_costs_no_more_a_job_than_a_short_one(sizes):
    short = min(seconds_to_empty(500, sizes) for _ in range(2))
    long = min(seconds_to_empty(4000, sizes) for _ in range(2))
    assert long < 8 * short * 4  # were it quadratic, it would be 64 times as much


def test_cancelling_a_thousand_waiting_jobs_is_quick(predictor):
    queue = JobQueue()
    jobs = [Job(predictor, image_of(0, (1 + i % 7, 1))) for i in range(1000)]
    for job in jobs:
        queue.add(job)
    for job in jobs[::-1]:
        queue.discard(job)
        queue.discard(job)  # twice does no harm
    assert len(queue) == 0
    assert queue.next(lambda job: 8, 0.0) == ([], float("inf"))
