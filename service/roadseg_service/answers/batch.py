"""The files of a batch through the pipeline: bounded, in any order, each with its own answer or problem."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from roadseg_service.answers.encoding import Answer
from roadseg_service.answers.file_names import answer_name, shown_name
from roadseg_service.answers.work import AnswerPlan
from roadseg_service.form import FormFile
from roadseg_service.observing.current import note_file_problem
from roadseg_service.pipeline import Pipeline
from roadseg_service.problems import INVALID_UPLOAD, QUEUE_FULL, Problem, ProblemError, ProblemKind, new_instance
from roadseg_service.scheduling.admission import Ticket
from roadseg_service.scheduling.frames import forget_frames
from roadseg_service.scheduling.phases import Phases
from roadseg_service.schemas import BatchItem
from roadseg_service.text import encodable

log = logging.getLogger("roadseg.service")

AT_ONCE = 16
"""Files of one batch that are in the pipeline at once: two batches of a device, one in it and one on its way."""

_MEMORY_PAUSE_S = 0.1

_UNFORESEEN = ProblemKind("about:blank", 500, "Internal Server Error")


@dataclass(frozen=True)
class ItemOutcome:
    """What became of one file.

    Attributes:
        item: its entry in the manifest.
        body: the answer; None where there is a problem instead.
    """

    item: BatchItem
    body: bytes | None = None


class BatchRun:
    """Takes the files of one request through the pipeline.

    Args:
        plan: what is done with each.
        pipeline: the way.
        ticket: the request's, accepted.
        phases: get the times of all files.
    """

    def __init__(self, plan: AnswerPlan, pipeline: Pipeline, ticket: Ticket, phases: Phases) -> None:
        self._plan = plan
        self._pipeline = pipeline
        self._ticket = ticket
        self._phases = phases
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def all(self, files: Sequence[FormFile]) -> list[ItemOutcome]:
        """The outcomes, in the files' order; cancelling drops what has not begun."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._one(index, file)) for index, file in enumerate(files)]
        return [task.result() for task in tasks]

    async def _one(self, index: int, file: FormFile) -> ItemOutcome:
        async with self._turns:
            try:
                return await self._answered(index, file)
            except ProblemError as error:
                outcome = _failed(index, file, error)
                forget_frames(error)
            except Exception as error:  # of one file, which the others shall not suffer for
                problem = ProblemError(_UNFORESEEN, "the server met an unexpected error; its log has the details")
                problem.__cause__ = error
                outcome = _failed(index, file, problem)
                forget_frames(error)
        return outcome

    async def _answered(self, index: int, file: FormFile) -> ItemOutcome:
        answer = await self._patiently(file)
        self._ticket.hold(2 * len(answer.body))  # here, and in the container
        item = BatchItem(
            index=index,
            name=shown_name(file.name),
            file=answer_name(index, file.name, self._plan.answer.media_type),
            media_type=self._plan.answer.media_type,
            etag=answer.headers["ETag"],
            exif_orientation=int(answer.headers["X-Roadseg-Exif-Orientation"]),
        )
        return ItemOutcome(item, answer.body)

    async def _patiently(self, file: FormFile) -> Answer:
        """The answer to a file, which waits for memory that others hold now, as long as there is time."""
        while True:
            try:
                with self._ticket.part() as part:
                    work = self._plan.work(partial(_content, file), part)
                    return await self._pipeline.run(work, part, self._phases)
            except ProblemError as error:
                if error.kind is not QUEUE_FULL or self._ticket.remaining_s() <= _MEMORY_PAUSE_S:
                    raise
                forget_frames(error)
            await asyncio.sleep(_MEMORY_PAUSE_S)


def _content(file: FormFile) -> bytes:
    if not file.data:
        raise ProblemError(INVALID_UPLOAD, "the file is empty (0 bytes); send an image")
    return file.data


def _failed(index: int, file: FormFile, error: ProblemError) -> ItemOutcome:
    instance, kind = new_instance(), error.kind
    note_file_problem(kind.slug)
    if error.__cause__ is not None and kind.status >= 500:
        log.error("file %d of a batch: %s (%s)", index, error.detail, instance, exc_info=error.__cause__)
    problem = Problem(
        type=kind.type, title=kind.title, status=kind.status, detail=encodable(error.detail), instance=instance
    )
    retry_after = error.headers.get("Retry-After")
    name = shown_name(file.name)
    retry_after_s = None if retry_after is None else int(retry_after)
    return ItemOutcome(BatchItem(index=index, name=name, problem=problem, retry_after_s=retry_after_s))
