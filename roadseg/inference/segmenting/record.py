"""Keeping rows and files in agreement: what a row tells of is there, and nothing of an earlier row is."""

from roadseg.inference.segmenting.done import Recorded
from roadseg.inference.segmenting.frame import Outcome
from roadseg.inference.segmenting.jobs import Job
from roadseg.inference.segmenting.manifest import ManifestWriter, Row, now
from roadseg.inference.segmenting.plan import Plan
from roadseg.inference.segmenting.told import remove_files, told_files


class Record:
    """The manifest of a run under way.

    Args:
        plan: what is to be done.
        writer: of the run's manifest.
        recorded: what earlier runs wrote into the folder.
        resume: whether that is to be left as it is.
    """

    def __init__(self, plan: Plan, writer: ManifestWriter, recorded: Recorded, *, resume: bool) -> None:
        self._plan = plan
        self._writer = writer
        self._recorded = recorded
        self._resume = resume
        self._known: dict[str, Row] = {}

    def known(self, job: Job) -> Row | None:
        """The row of an earlier run that this one goes on from, of a job that is now begun."""
        row = self._recorded.last(job.relative)
        if row is not None:
            self._known[job.relative] = row
        return row if self._resume else None

    def add(self, outcome: Outcome) -> None:
        """Write down what became of a job, when what an earlier run wrote for it and this one did not is gone.

        Raises:
            OutputError: when a file cannot be removed, or the row not be written.
        """
        known = self._known.pop(outcome.relative, None)
        if outcome.row is None:
            return
        if known is not None:
            self._remove_old(outcome.relative, known, outcome.row)
        self._writer.append({**outcome.row, "finished": now()})

    def _remove_old(self, relative: str, known: Row, row: Row) -> None:
        there = set(told_files(row))
        own = self._plan.written(relative)  # what this frame writes is its own; what another does is not
        names = (name for name in told_files(known) if name not in there)
        gone = (name for name in names if name in own or not self._plan.writes(name))
        remove_files(self._plan.output, gone, empty_folders="video" in known)
