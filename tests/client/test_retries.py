"""When a request is sent again: the waits are compared with sums by hand, on a clock that only moves by sleeping."""

import email.utils

import httpx
import numpy as np
import pytest

from roadseg.client.retries import retry_after_s
from roadseg.errors import (
    ConfigError,
    ServiceAccessError,
    ServiceAnswerError,
    ServiceBusyError,
    ServiceError,
    ServiceImageError,
    ServiceUnreachableError,
)
from tests.client.scripted import MASK, PIXELS, FakeClock, Script, answer, problem, scripted


def date(unix_time):
    return email.utils.formatdate(unix_time, usegmt=True)


@pytest.mark.parametrize("status", [429, 503, 504])
def test_a_passing_refusal_is_tried_again(status):
    clock = FakeClock()
    script = Script(problem(status), problem(status), answer())
    result = scripted(script, clock).segment(PIXELS)
    np.testing.assert_array_equal(result.mask, MASK)
    assert clock.slept == [0.5, 1.0], "bounds of the jitter double from 0.5 s"
    assert script.paths() == ["/segment"] * 3 + ["/v1/models"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 406, 408, 413, 415, 422, 500, 501])
def test_a_lasting_refusal_is_not(status):
    clock, script = FakeClock(), Script(problem(status, "some-kind", "that will not do"))
    with pytest.raises(ServiceError, match="that will not do") as caught:
        scripted(script, clock).segment(PIXELS)
    assert len(script.requests) == 1 and not clock.slept
    assert (caught.value.status, caught.value.type) == (status, "some-kind")


def test_waits_grow_up_to_thirty_seconds():
    clock = FakeClock()
    with pytest.raises(ServiceBusyError):
        scripted(Script(problem(503)), clock, retries=9, deadline_s=1000).segment(PIXELS)
    assert clock.slept == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_the_random_share_spans_the_whole_wait():
    waits = []
    for share in (0.0, 0.25, 1.0):
        clock = FakeClock()
        scripted(Script(problem(503), problem(503), answer()), clock, share).segment(PIXELS)
        waits.append(clock.slept)
    assert waits == [[0, 0], [0.125, 0.25], [0.5, 1.0]]


def test_what_the_service_asks_for_is_waited_for_with_the_jitter_on_top():
    clock = FakeClock()
    refusals = [problem(429, **{"Retry-After": "7"}), problem(503, **{"Retry-After": "0"})]
    scripted(Script(*refusals, answer()), clock, share=0.5).segment(PIXELS)
    assert clock.slept == [7.25, 0.5]


def test_a_date_to_come_back_at_is_read_by_the_services_own_clock():
    clock = FakeClock()  # at 1000, which is 1970; the service is fifty years ahead
    now = 1_700_000_000
    script = Script(problem(503, **{"Retry-After": date(now + 12), "Date": date(now)}), answer())
    scripted(script, clock, share=0.0).segment(PIXELS)
    assert clock.slept == [12]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 3 ", 3),
        (date(1000 + 5), 5),
        ("Thursday, 01-Jan-70 00:16:45 GMT", 5),  # RFC 850, which RFC 9110 wants read
        ("Thu Jan  1 00:16:45 1970", 5),  # asctime, likewise
        (date(1000 - 60), 0),
        ("", None),
        ("soon", None),
        ("-4", None),
        ("1.5", None),
        ("1e3", None),
        ("٣", None),
        ("9" * 400, None),
    ],
)
def test_retry_after_is_read_as_the_standard_says(value, seconds):
    assert retry_after_s({"Retry-After": value}, now=1000.0) == seconds


def test_what_lies_behind_the_deadline_is_not_waited_for():
    clock, script = FakeClock(), Script(problem(429, **{"Retry-After": "3600"}))
    with pytest.raises(ServiceBusyError, match="deadline_s=300"):
        scripted(script, clock).segment(PIXELS)
    assert not clock.slept and len(script.requests) == 1


def test_slow_failures_end_at_the_deadline():
    clock = FakeClock()

    def slow(request):
        clock.time += 40
        raise httpx.ReadTimeout("no answer", request=request)

    with pytest.raises(ServiceUnreachableError):
        scripted(slow, clock, deadline_s=100, retries=50).segment(PIXELS)
    assert clock.time - 1000 <= 100 + 40


def test_a_request_may_not_take_longer_than_is_left():
    clock, given = FakeClock(), []

    def note(request):
        given.append(request.extensions["timeout"]["read"])
        clock.time += 25
        return problem(503)

    with pytest.raises(ServiceBusyError):
        scripted(note, clock, share=0.0, deadline_s=60, timeout_s=30).segment(PIXELS)
    assert given == [30, 30, 10]


@pytest.mark.parametrize(
    "failure", [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("cut off")]
)
def test_a_broken_connection_is_tried_again(failure):
    script = Script(failure, answer())
    np.testing.assert_array_equal(scripted(script).segment(PIXELS).mask, MASK)
    assert script.requests[0].content == script.requests[1].content


def test_no_answer_at_all_is_told_with_its_reason():
    with pytest.raises(ServiceUnreachableError, match=r"http://service.test.*the array.*after 2 of 2 retries.*refused"):
        scripted(Script(httpx.ConnectError("refused")), retries=2).segment(PIXELS)


def test_each_try_has_a_request_id_of_its_own():
    script = Script(problem(503), answer())
    scripted(script).segment(PIXELS)
    first, second = (request.headers["X-Request-ID"] for request in script.requests[:2])
    assert first.removesuffix("-1") == second.removesuffix("-2") and first != second


def test_errors_carry_what_the_problem_says():
    refused = problem(413, "image-too-large", "50 Mpx at most", **{"X-Request-ID": "abc"})
    with pytest.raises(
        ServiceImageError, match=r"the array: 50 Mpx at most \(413 image-too-large, request abc\)"
    ) as it:
        scripted(Script(refused)).segment(PIXELS)
    assert (it.value.detail, it.value.instance, it.value.request_id) == ("50 Mpx at most", "urn:i", "abc")


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_is_an_error_of_its_own_that_does_not_repeat_the_key(status):
    with pytest.raises(ServiceAccessError, match="api_key") as caught:
        scripted(Script(problem(status, "unauthorised")), api_key="sesame").segment(PIXELS)
    assert "sesame" not in str(caught.value)


def test_a_page_of_a_proxy_is_told_in_one_line():
    page = httpx.Response(502, headers={"Content-Type": "text/html"}, content=b"<h1>Bad\n\n\x1b[31m Gateway</h1>")
    with pytest.raises(ServiceAnswerError, match=r"<h1>Bad \[31m Gateway</h1>"):
        scripted(Script(page)).segment(PIXELS)


def test_a_redirect_is_not_followed_but_told():
    script = Script(httpx.Response(308, headers={"Location": "https://elsewhere.test/segment"}))
    with pytest.raises(ServiceAnswerError, match="https://elsewhere.test/segment"):
        scripted(script, api_key="sesame").segment(PIXELS)
    assert {request.url.host for request in script.requests} == {"service.test"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"retries": -1}, "retries is -1"),
        ({"retries": 1.5}, "retries is 1.5"),
        ({"timeout_s": 0}, "timeout_s is 0"),
        ({"deadline_s": float("inf")}, "deadline_s is inf"),
        ({"api_key": "two words"}, "api_key"),
        ({"api_key": "clé"}, "api_key"),
        ({"api_key": ""}, "api_key"),
    ],
)
def test_wrong_settings_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        scripted(Script(answer()), **options)
