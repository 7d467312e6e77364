"""A device that hangs or always fails is told by the health checks, and the first success ends it."""

import numpy as np
from service_asserts import assert_problem, mask_in
from service_corpus import png, scene
from service_running import eventually, running

from roadseg.errors import ImageSizeError
from roadseg.images import DecodedImage
from roadseg_service.scheduling.device_watch import LEAST_HUNG_S, MOST_FAILURES, REST_S, DeviceWatch
from roadseg_service.scheduling.jobs import Job


def job(number):
    return Job(None, DecodedImage(np.full((2, 3, 3), number, np.uint8), "PNG", 1, "displayed"))


def run(watch, *numbers, error=None):
    watch.began()
    watch.ended([job(number) for number in numbers], error)


BROKEN = RuntimeError("illegal memory access")


def test_different_images_that_all_fail_are_the_devices_fault(clock):
    watch = DeviceWatch(30, clock)
    for number in range(MOST_FAILURES - 1):
        run(watch, number, error=BROKEN)
    assert watch.trouble is None
    run(watch, 99, error=BROKEN)
    assert "all failed" in watch.trouble and not watch.hung
    run(watch, 100)
    assert watch.trouble is None


def test_a_success_between_failures_begins_the_count_again(clock):
    watch = DeviceWatch(30, clock)
    for number in range(4 * MOST_FAILURES):
        run(watch, number, error=None if number % MOST_FAILURES == 0 else BROKEN)
        assert watch.trouble is None


def test_one_image_that_is_sent_again_and_again_is_not_the_devices_fault(clock):
    watch = DeviceWatch(30, clock)
    for _ in range(100):
        run(watch, 7, error=BROKEN)
    assert watch.trouble is None


def test_batches_that_are_tried_apart_and_images_that_the_model_refuses_say_nothing(clock):
    watch = DeviceWatch(30, clock)
    for number in range(100):
        run(watch, number, number + 1, error=BROKEN)
        run(watch, number, error=ImageSizeError("2x3 is not 4x4"))
    assert watch.trouble is None


def test_work_is_let_in_again_after_a_rest_and_one_more_failure_ends_that(clock):
    """Behind a load balancer nothing is sent to a server that is not ready: no success would ever be seen."""
    watch = DeviceWatch(30, clock)
    for number in range(MOST_FAILURES):
        run(watch, number, error=BROKEN)
    clock.now += REST_S
    assert watch.trouble is None
    run(watch, 0, error=BROKEN)
    assert watch.trouble is not None


def test_a_batch_is_late_after_two_deadlines_and_hangs_after_ten(clock):
    watch = DeviceWatch(60, clock)
    watch.began()
    clock.now += 120
    assert (watch.trouble, watch.hung, watch.age_s) == (None, False, 120)
    clock.now += 1
    assert "one batch for 121 s" in watch.trouble and not watch.hung
    clock.now += 479
    assert not watch.hung
    clock.now += 1
    assert watch.hung
    watch.ended([job(1)], None)
    assert (watch.trouble, watch.hung, watch.age_s) == (None, False, 0)


def test_short_deadlines_do_not_make_compiling_a_hang(clock):
    watch = DeviceWatch(1, clock)
    watch.began()
    clock.now += LEAST_HUNG_S
    assert watch.trouble is not None and not watch.hung
    clock.now += 1
    assert watch.hung


def ready_in(service):
    text = service.client.get("/metrics").text.splitlines()
    return {line.split()[0]: float(line.split()[1]) for line in text if line.startswith("roadseg_")}


def test_a_server_whose_device_fails_is_not_ready_until_it_succeeds():
    with running() as service:
        service.engine.failure = RuntimeError
        for seed in range(MOST_FAILURES):
            assert service.client.get("/readyz").status_code == 200
            answer = service.client.post("/segment", content=png(scene(seed=seed)))
            assert_problem(answer, 500, "prediction-failed")
        assert_problem(service.client.get("/readyz"), 503, "device-failing", "all failed")
        assert service.client.get("/livez").status_code == 200
        values = ready_in(service)
        assert (values["roadseg_ready"], values["roadseg_device_failing"]) == (0, 1)
        service.engine.failure = None
        mask_in(service.client.post("/segment", content=png()))  # it is tried all the same
        assert service.client.get("/readyz").status_code == 200
        values = ready_in(service)
        assert (values["roadseg_ready"], values["roadseg_device_failing"]) == (1, 0)


def test_a_server_whose_device_hangs_is_not_ready_and_then_not_alive(monkeypatch, clock):
    with running(deadline_s=0.5) as service:
        monkeypatch.setattr(service.pipeline.watch, "_clock", clock)
        service.engine.gate.clear()
        assert_problem(service.client.post("/segment", content=png()), 504, "deadline-exceeded")
        clock.now += 2
        assert ready_in(service)["roadseg_batch_age_seconds"] == 2
        assert_problem(service.client.get("/readyz"), 503, "device-failing", "one batch for 2 s")
        assert service.client.get("/livez").status_code == 200
        clock.now += LEAST_HUNG_S
        assert_problem(service.client.get("/livez"), 503, "device-failing", "restart")
        service.engine.gate.set()
        eventually(lambda: service.pipeline.watch.age_s == 0, "the end of the pass")
        assert service.client.get("/livez").status_code == service.client.get("/readyz").status_code == 200
