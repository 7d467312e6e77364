"""Loading models: the first one, and others that take its place while it answers."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextvars import copy_context
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from roadseg.errors import RoadsegError
from roadseg.inference.artefact import Artefact, read_model
from roadseg.inference.bundled import model_path
from roadseg.inference.package import ModelFile
from roadseg.inference.predictor import Predictor
from roadseg_service.models.checks import Wanted, check
from roadseg_service.models.names import name_of, without_folders
from roadseg_service.models.slot import ModelSlot, ServedModel
from roadseg_service.models.source import find_model
from roadseg_service.models.warm_up import RecentSizes, warm_up
from roadseg_service.problems import (
    MODEL_MISMATCH,
    MODEL_NOT_ALLOWED,
    MODEL_UNUSABLE,
    NO_PREVIOUS_MODEL,
    SWAP_IN_PROGRESS,
    ProblemError,
)
from roadseg_service.scheduling.frames import forget_frames
from roadseg_service.scheduling.memory import is_out_of_memory
from roadseg_service.settings import ServiceSettings

log = logging.getLogger("roadseg.service")

Trigger = Literal["start", "request", "rollback", "reload"]
Outcome = Literal["succeeded", "unchanged", "failed"]

Observe = Callable[[str, str], None]
"""Takes a trigger and its outcome."""

RETRY_AFTER_S = 5

_Work = Callable[[], Outcome]


@dataclass(frozen=True)
class Attempt:
    """A change of the model, while it runs or as it ended.

    Attributes:
        trigger: who asked for it.
        model: what was asked for, by name.
        began: when.
        seconds: that it took.
        outcome: how it ended; None while it runs.
        detail: why it failed, without paths of this machine: who may read it need not know them.
    """

    trigger: Trigger
    model: str
    began: datetime
    seconds: float = 0.0
    outcome: Outcome | None = None
    detail: str | None = None


class ModelLoader:
    """Fills the model's place, one attempt at a time, beside the model that answers.

    Whatever fails, the model that answers stays. Memory holds it, the one before, and while another is loaded that one.

    Args:
        slot: the place.
        settings: the configured model, and the folder of others.
        load: gives the configured model.
        open_model: gives the model of a path.
        recent: the sizes to warm up at.
        observe: told of each attempt's outcome.
    """

    def __init__(
        self,
        slot: ModelSlot,
        settings: ServiceSettings,
        load: Callable[[], Predictor],
        open_model: Callable[[Path], Predictor],
        recent: RecentSizes,
        observe: Observe,
    ) -> None:
        """Keep what is needed; nothing is loaded yet."""
        self.loading: Attempt | None = None
        self.last: Attempt | None = None
        self._slot = slot
        self._settings = settings
        self._load = load
        self._open = open_model
        self._recent = recent
        self._observe = observe
        self._paths = [path for path in (settings.model, settings.models_dir) if path]
        self._turn = threading.Lock()

    def start(self) -> None:
        """Load the configured model in a thread; a failure is kept for who asks, and logged."""
        self._in_thread("start", self._settings.model_name, self._fill)

    def swap(self, wanted: Wanted) -> "Future[Attempt]":
        """Load another model in a thread, and switch to it once it has proved itself.

        Returns:
            Gives how it ended, or raises a ProblemError: model-not-allowed, model-mismatch or model-unusable.

        Raises:
            ProblemError: swap-in-progress.
        """

        def work() -> Outcome:
            path = find_model(wanted.model, self._settings.models_dir)
            found = read_model(path)
            if isinstance(found, Artefact) and wanted.digest is None:
                raise ProblemError(
                    MODEL_NOT_ALLOWED,
                    f"'{wanted.model}' is an exported model, which is loaded by its digest only; give the SHA-256 of "
                    "its artefact.json as digest",
                )
            return self._replace(wanted, path, found)

        return self._in_thread("request", name_of(wanted.model), work)

    def reload(self) -> "Future[Attempt] | None":
        """Load the configured model again, in a thread: its file may be another one by now. Never raises.

        Returns:
            As `swap`; None when another attempt is running, so that nothing is done.
        """
        wanted = Wanted(self._settings.model)

        def work() -> Outcome:
            path = model_path(wanted.model)
            return self._replace(wanted, path, read_model(path))

        try:
            return self._in_thread("reload", self._settings.model_name, work)
        except ProblemError as error:
            log.warning("the model is not loaded again: %s", error.detail)
            return None

    def roll_back(self) -> None:
        """Answer with the model before, which is still loaded.

        Raises:
            ProblemError: swap-in-progress or no-previous-model.
        """

        def work() -> Outcome:
            if self._slot.go_back() is None:
                raise ProblemError(NO_PREVIOUS_MODEL, "there is no model to go back to: none was replaced so far")
            return "succeeded"

        previous = self._slot.previous
        self._attempt(self._begin("rollback", "" if previous is None else previous.name), work)

    def _fill(self) -> Outcome:
        predictor = self._load()
        warm_up(predictor, self._recent.latest_first())
        self._slot.switch(ServedModel(predictor.name or self._settings.model_name, predictor))
        return "succeeded"

    def _replace(self, wanted: Wanted, path: Path, found: ModelFile | Artefact) -> Outcome:
        """Load what was found, unless it is loaded already, and switch to it."""
        active, previous = self._slot.active, self._slot.previous
        check(wanted, found, active)
        digest = found.digest
        if active is not None and active.predictor.digest == digest:
            return "unchanged"
        if previous is not None and previous.predictor.digest == digest:
            self._slot.go_back()
            return "succeeded"
        predictor = self._open(path)
        if predictor.digest != digest:
            raise ProblemError(MODEL_MISMATCH, f"the files of '{wanted.model}' changed while they were read; try again")
        warm_up(predictor, self._recent.latest_first())
        self._slot.switch(ServedModel(found.name, predictor))
        return "succeeded"

    def _in_thread(self, trigger: Trigger, model: str, work: _Work) -> "Future[Attempt]":
        """Do an attempt's work in a thread.

        It is a daemon, as converting a model takes minutes that a server which is told to stop does not have.
        """
        begun = self._begin(trigger, model)
        done: Future[Attempt] = Future()
        done.set_running_or_notify_cancel()  # who waits may go away; the work goes on

        def run() -> None:
            try:
                ended = self._attempt(begun, work)
            except ProblemError as error:
                done.set_exception(error)
            else:
                done.set_result(ended)

        threading.Thread(target=copy_context().run, args=(run,), name="roadseg-loader", daemon=True).start()
        return done

    def _begin(self, trigger: Trigger, model: str) -> Attempt:
        if not self._turn.acquire(blocking=False):
            running = self.loading
            what = "another change of the model" if running is None else f"loading '{running.model}'"
            raise ProblemError(
                SWAP_IN_PROGRESS,
                f"{what} is in progress, and one is done at a time; try again in {RETRY_AFTER_S} s",
                {"Retry-After": str(RETRY_AFTER_S)},
            )
        self.loading = Attempt(trigger, model, datetime.now(UTC))
        return self.loading

    def _attempt(self, begun: Attempt, work: _Work) -> Attempt:
        """Do an attempt's work, and tell everybody how it ended."""
        clock = time.monotonic()
        failure: ProblemError | None = None
        detail: str | None = None
        outcome: Outcome = "failed"
        try:
            outcome = work()
        except Exception as error:
            failure = _problem_of(error, begun, self._paths)
            forget_frames(error)  # which hold the model that failed
            detail = without_folders(failure.detail, self._paths)
            if begun.trigger == "start":
                self._slot.fail(detail)
        seconds = round(time.monotonic() - clock, 3)
        ended = replace(begun, seconds=seconds, outcome=outcome, detail=detail)
        self.last, self.loading = ended, None
        self._turn.release()
        self._observe(ended.trigger, outcome)
        if failure is not None:
            raise failure
        answering = self._slot.get()
        log.info(
            "model '%s' (%s) answers",
            answering.name,
            answering.predictor.digest[:12],
            extra={"fields": {"trigger": ended.trigger, "outcome": outcome, "seconds": seconds}},
        )
        return ended


def _problem_of(error: Exception, attempt: Attempt, paths: Sequence[str]) -> ProblemError:
    """The problem of a failed attempt, logged; without the error itself, whose traceback would keep a model alive."""
    reason: str | None = None
    if isinstance(error, ProblemError):
        problem = ProblemError(error.kind, error.detail, error.headers)
    elif isinstance(error, RoadsegError):
        reason = str(error)
        problem = ProblemError(MODEL_UNUSABLE, without_folders(reason, paths))
    elif is_out_of_memory(error):
        problem = ProblemError(MODEL_UNUSABLE, "memory ran out while it was loaded or tried; make room, and try again")
    else:
        problem = ProblemError(MODEL_UNUSABLE, f"{type(error).__name__}; the server's log has the details")
    log.error(
        "model '%s' could not be loaded: %s",
        attempt.model,
        reason or problem.detail,
        exc_info=None if isinstance(error, ProblemError | RoadsegError) else error,
        extra={"fields": {"trigger": attempt.trigger, "outcome": "failed"}},
    )
    return problem
