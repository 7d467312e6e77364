"""Who gets in, against sums worked out by hand."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from roadseg_service.problems import ProblemError
from roadseg_service.scheduling.admission import Admission


def admission_of(clock, places=4, memory=1000, deadline_s=30.0):
    return Admission(places, memory, deadline_s, clock)


def taken(admission, stack):
    ticket = stack.enter_context(admission.ticket())
    ticket.accept()
    return ticket


def refused(call):
    with pytest.raises(ProblemError) as caught:
        call()
    assert caught.value.kind.status == 429
    return caught.value


def enter(admission):
    with admission.ticket() as ticket:
        ticket.accept()


def answer_each(admission, clock, seconds):
    """Two requests that wait for each other, answered so many seconds apart."""
    with ExitStack() as stack:
        taken(admission, stack)
        clock.now += seconds
        admission.answered()


def test_uploads_take_no_place_until_they_are_whole(clock):
    admission = admission_of(clock, places=1)
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(admission.ticket()).hold(5)
        assert (admission.tickets, admission.accepted, admission.held_bytes) == (100, 0, 500)
        taken(admission, stack)
        assert admission.accepted == 1
    assert (admission.tickets, admission.accepted, admission.held_bytes) == (0, 0, 0)


def test_the_last_place_goes_to_the_first_whole_upload(clock):
    admission = admission_of(clock, places=1)
    with admission.ticket() as slow, admission.ticket() as fast:
        fast.accept()
        assert "1 requests" in refused(slow.accept).detail
        assert "of at most 1" in refused(lambda: enter(admission)).detail
    assert admission.accepted == 0
    assert admission.refused == {"places": 2}


def test_a_request_of_many_images_takes_as_many_places(clock):
    admission = admission_of(clock, places=4)
    with admission.ticket() as many, admission.ticket() as few:
        many.accept(3)
        refused(lambda: few.accept(2))
        few.accept(1)
        assert admission.accepted == 4
    assert admission.accepted == 0


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_whatever_ends_a_request_gives_all_back(clock, error):
    admission = admission_of(clock)
    with pytest.raises(error), admission.ticket() as ticket, admission.ticket() as upload:
        upload.hold(30)
        ticket.hold(400)
        ticket.accept()
        ticket.hold(300)
        assert admission.uploading_bytes == 30
        raise error
    assert (admission.tickets, admission.accepted, admission.held_bytes, admission.uploading_bytes) == (0, 0, 0, 0)


def test_uploads_that_are_not_whole_hold_at_most_half_of_the_memory(clock):
    admission = admission_of(clock, memory=1000)
    with admission.ticket() as slow, admission.ticket() as fast:
        slow.hold(450)
        assert "hold 450 of the 500" in refused(lambda: fast.hold(51)).detail
        fast.hold(50)
        fast.whole()
        slow.hold(50)  # which the whole one no longer takes of their share
        fast.hold(450)  # and it is decoded beside them
        assert (admission.held_bytes, admission.uploading_bytes) == (1000, 500)
    assert (admission.held_bytes, admission.uploading_bytes, admission.refused) == (0, 0, {"memory": 1})


def test_a_single_upload_is_taken_even_if_it_is_more_than_that_share(clock):
    admission = Admission(4, 1000, 30, clock, upload_bytes=700)
    with admission.ticket() as ticket:
        ticket.hold(700)
        refused(lambda: ticket.hold(1))


@pytest.mark.parametrize(("age_s", "told"), [(0.2, "1"), (10, "10"), (25, "25"), (45, "15"), (59.9, "1")])
def test_memory_that_uploads_hold_is_waited_for_as_long_as_they_have_lasted_or_still_may(clock, age_s, told):
    admission = Admission(4, 1000, 30, clock, upload_s=60)
    with admission.ticket() as oldest, admission.ticket() as other:
        oldest.hold(500)
        clock.now += age_s
        assert refused(lambda: other.hold(1)).headers["Retry-After"] == told


def test_an_image_of_several_that_waits_for_memory_is_not_counted_as_refused(clock):
    admission = admission_of(clock, memory=1000)
    with admission.ticket() as other, admission.ticket() as batch:
        other.accept()
        other.hold(900)
        batch.accept(2)
        for _ in range(10):
            with batch.part() as part:
                refused(lambda part=part: part.hold(200))
        assert admission.refused == {}


def test_when_nothing_is_left_the_most_that_was_held_is_told(clock):
    idle = []
    admission = Admission(4, 1000, 30, clock, on_idle=idle.append)
    step = Future()
    step.set_running_or_notify_cancel()
    with admission.ticket() as one:
        one.accept()
        with admission.ticket() as other:
            one.hold(400)
            other.hold(300)
        assert idle == []
        one.keep_until(step)
    assert idle == []  # it still runs
    step.set_result(None)
    assert idle == [700]
    enter(admission)
    assert idle == [700, 0]


def test_memory_is_counted_over_all_requests(clock):
    admission = admission_of(clock, memory=1000)
    with admission.ticket() as one, admission.ticket() as other:
        one.whole()
        other.whole()
        one.hold(600)
        problem = refused(lambda: other.hold(401))
        assert "needs 401 bytes" in problem.detail
        assert "hold 600 of the 1000" in problem.detail
        other.hold(400)
        refused(lambda: one.hold(1))
    other_after = admission_of(clock)
    assert admission.held_bytes == other_after.held_bytes == 0
    assert admission.refused == {"memory": 2}


def test_memory_of_a_step_that_still_runs_stays_counted_after_its_request(clock):
    admission = admission_of(clock, memory=1000)
    step = Future()
    step.set_running_or_notify_cancel()
    with admission.ticket() as ticket:
        ticket.hold(300)
        ticket.keep_until(step)
    assert (admission.tickets, admission.held_bytes) == (0, 300)
    step.set_result(None)
    assert admission.held_bytes == 0


def test_a_thread_cannot_take_memory_for_a_request_that_has_ended(clock):
    admission = admission_of(clock)
    with admission.ticket() as ticket:
        pass
    with pytest.raises(ProblemError) as caught:
        ticket.hold(10)
    assert caught.value.kind.status == 499
    assert admission.held_bytes == 0


def test_memory_from_many_threads_adds_up(clock):
    admission = admission_of(clock, memory=10**9)
    with admission.ticket() as ticket:
        barrier = threading.Barrier(8)

        def take(_):
            barrier.wait()
            for _ in range(2000):
                ticket.hold(3)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(take, range(8)))
        assert admission.held_bytes == ticket.held_bytes == 8 * 2000 * 3
    assert admission.held_bytes == 0


def test_retry_after_is_when_all_that_are_here_will_be_done(clock):
    admission = admission_of(clock, places=3)
    answer_each(admission, clock, 2.5)
    with ExitStack() as stack:
        for _ in range(3):
            taken(admission, stack)
        problem = refused(lambda: enter(admission))
        assert problem.headers == {"Retry-After": "8"}  # 3 x 2.5 s, in whole seconds
        assert "try again in 8 s" in problem.detail


@pytest.mark.parametrize(("seconds", "told"), [(0.0, "1"), (0.01, "1"), (100.0, "60")])
def test_retry_after_is_at_least_a_second_and_at_most_a_minute(clock, seconds, told):
    admission = admission_of(clock, places=1, deadline_s=1000)
    answer_each(admission, clock, seconds)
    with ExitStack() as stack:
        taken(admission, stack)
        assert refused(lambda: enter(admission)).headers["Retry-After"] == told


def test_a_request_that_would_miss_its_deadline_is_refused_at_once(clock):
    admission = admission_of(clock, places=100, deadline_s=30)
    answer_each(admission, clock, 2.5)
    with ExitStack() as stack:
        for _ in range(6):  # the sixth has its answer after 6 x 2.5 = 15 s, half of the deadline
            taken(admission, stack)
        problem = refused(lambda: enter(admission))
        assert "would take about 17.5 s, and it may take 30 s" in problem.detail
        assert problem.headers["Retry-After"] == "15"
    assert admission.refused == {"time": 1}
    enter(admission)


def test_an_upload_during_which_others_came_is_refused_when_it_is_whole(clock):
    admission = admission_of(clock, places=100, deadline_s=15)
    answer_each(admission, clock, 2.5)
    with ExitStack() as stack:
        slow = stack.enter_context(admission.ticket())
        for _ in range(3):
            taken(admission, stack)
        refused(slow.accept)


def test_a_single_request_is_taken_however_slow_the_last_one_was(clock):
    admission = admission_of(clock, deadline_s=1)
    answer_each(admission, clock, 500)
    enter(admission)


def test_a_device_that_has_stopped_answering_is_noticed_without_an_answer(clock):
    admission = admission_of(clock, places=100, deadline_s=30)
    with ExitStack() as stack:
        taken(admission, stack)
        clock.now += 20
        assert "about 40.0 s" in refused(lambda: enter(admission)).detail


def test_the_deadline_runs_from_the_place(clock):
    admission = admission_of(clock, deadline_s=30)
    with admission.ticket() as ticket:
        assert ticket.remaining_s() == float("inf")
        clock.now += 100
        ticket.accept()
        clock.now += 10
        assert ticket.remaining_s() == 20
        clock.now += 50
        assert ticket.remaining_s() == -30
