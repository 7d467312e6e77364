"""The benchmark: everything opened, checked, and timed in turn, in one run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from roadseg.benching import memory
from roadseg.benching.ceilings import CeilingKey, ceiling_gflops, make_chain, share_of_ceiling
from roadseg.benching.combinations import Combination, Runner
from roadseg.benching.loading import Workspace, open_runner, reason_of, use_threads
from roadseg.benching.machine import describe_machine
from roadseg.benching.probe import probe_apart
from roadseg.benching.reference import Masks, reference_masks
from roadseg.benching.results import Ceiling, Memory, Network, Report, Row, Settings
from roadseg.benching.timing import Spread, interleaved_times, summarise
from roadseg.benching.work import WANTED, network_cost, scenes
from roadseg.errors import RoadsegError
from roadseg.image_size import Size
from roadseg.inference.predictor import Predictor
from roadseg.inference.scale import working_size
from roadseg.provenance import software_versions

Tell = Callable[[str], object]


class Guarded:
    """A run that keeps its error instead of raising it, and then runs no more: one engine must not stop the others."""

    def __init__(self, run: Callable[[], Any]) -> None:
        self._run = run
        self.failure: str | None = None

    def __call__(self) -> Any:
        """What the run gives; None once it has failed."""
        if self.failure is not None:
            return None
        try:
            return self._run()
        except Exception as error:  # runtimes raise what they like; all of it is a reason
            self.failure = reason_of(error)
            return None


@dataclass
class _Entry:
    """A combination on its way to a row."""

    combination: Combination
    predictor: Predictor | None = None
    run: Guarded | None = None
    failure: str | None = None
    memory: Memory | None = None
    agreement: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def why_not(self) -> str | None:
        return self.failure or (self.run.failure if self.run else None)

    @property
    def key(self) -> CeilingKey:
        """As the engine turned out."""
        if self.predictor is None:
            runner = self.combination.runner
            return CeilingKey(runner.engine, runner.precision, runner.device)
        engine = self.predictor.engine
        return CeilingKey(engine.name, engine.precision, engine.device)


def run_bench(combinations: Sequence[Combination], settings: Settings, tell: Tell = lambda text: None) -> Report:
    """Measure combinations.

    Each first runs in a process of its own, for its memory. Then all are opened in this process, warmed, compared with
    torch in float32, and timed in turn, with the chains of matrix products among them, in an order that changes from
    round to round. What is timed is `Engine.run`: uint8 images in, uint8 masks out, at the images' own size.

    Args:
        combinations: see `roadseg.benching.combinations.combine`.
        settings: how.
        tell: is given a line at each step, for a person who waits.

    Returns:
        The report, with a row a combination. One that does not run has its reason there.
    """
    load = describe_machine()["load_1min"]
    use_threads(settings.threads)
    images = {pair: scenes(*pair) for pair in dict.fromkeys((c.size, c.batch) for c in combinations)}
    with Workspace(tell) as workspace:
        entries = [_Entry(c) for c in combinations]
        _prepare(entries, workspace, settings, tell)
        _warm(entries, images, settings, tell)
        if settings.agreement:
            _compare(entries, images, tell)
        chains = _chains(entries, settings, tell)
        spreads, ceilings = _time(entries, chains, settings, tell)
    rows = [_row(entry, spread, ceilings) for entry, spread in zip(entries, spreads, strict=True)]
    machine = {**describe_machine(), "load_1min": load}  # what torch knows of the machine is known by now
    return Report(machine, software_versions(), settings, tuple(ceilings.values()), tuple(rows))


def _prepare(entries: Sequence[_Entry], workspace: Workspace, settings: Settings, tell: Tell) -> None:
    """Probe each combination in its own process, and open each runner once for each size.

    Some engines compile the network for each size and keep a few: one for all sizes might compile while it is timed.
    """
    follow = settings.memory and memory.can_measure()
    opened: dict[tuple[Runner, Size], Predictor | str] = {}
    for entry in entries:
        combination = entry.combination
        runner = combination.runner
        try:
            ready = workspace.ready(runner)
            if follow:
                tell(f"memory of {combination}")
                entry.memory = probe_apart(replace(combination, runner=ready))
        except RoadsegError as error:
            entry.failure = reason_of(error)
            continue
        if settings.memory and not follow:
            entry.notes.append("memory is measured on Linux only")
        key = runner, combination.size
        if key not in opened:
            opened[key] = _open(ready)
        found = opened[key]
        if isinstance(found, str):
            entry.failure = found
        else:
            entry.predictor = found


def _open(runner: Runner) -> Predictor | str:
    try:
        return open_runner(runner)
    except Exception as error:  # runtimes raise what they like; all of it is a reason
        return reason_of(error)


def _warm(
    entries: Sequence[_Entry], images: dict[tuple[Size, int], npt.NDArray[np.uint8]], settings: Settings, tell: Tell
) -> None:
    for entry in entries:
        if entry.predictor is None:
            continue
        combination = entry.combination
        tell(f"warming {combination}")
        batch = images[combination.size, combination.batch]
        entry.run = Guarded(partial(entry.predictor.engine.run, batch, WANTED))
        for _ in range(settings.warm_ups):
            entry.run()


def _compare(entries: Sequence[_Entry], images: dict[tuple[Size, int], npt.NDArray[np.uint8]], tell: Tell) -> None:
    live = [entry for entry in entries if entry.run is not None and entry.why_not is None]
    models = dict.fromkeys(entry.combination.runner.model for entry in entries)
    for model in models:
        own = [entry for entry in live if entry.combination.runner.model == model]
        pairs = dict.fromkeys((entry.combination.size, entry.combination.batch) for entry in own)
        if not own:
            continue
        tell(f"masks of {model} by torch in float32")
        masks = reference_masks(model, models, {pair: images[pair] for pair in pairs})
        for entry in own:
            _agree(entry, masks)


def _agree(entry: _Entry, masks: Masks | str) -> None:
    if isinstance(masks, str):
        entry.notes.append(masks)
        return
    computed = entry.run() if entry.run else None
    if computed is not None:
        expected = masks[entry.combination.size, entry.combination.batch]
        entry.agreement = float(np.mean(computed["mask"] == expected))


def _chains(entries: Sequence[_Entry], settings: Settings, tell: Tell) -> dict[CeilingKey, Guarded | str]:
    """The chain of matrix products of each engine, precision and device that is measured, warmed; or why not."""
    keys = dict.fromkeys(entry.key for entry in entries if entry.run is not None and entry.why_not is None)
    chains: dict[CeilingKey, Guarded | str] = {}
    for key in keys if settings.matmul_side else ():
        tell(f"matrix products of {key.engine} in {key.precision}")
        try:
            run = Guarded(make_chain(key, settings.matmul_side))
        except Exception as error:  # runtimes raise what they like; all of it is a reason
            chains[key] = reason_of(error)
            continue
        for _ in range(settings.warm_ups):
            run()
        chains[key] = run
    return chains


def _time(
    entries: Sequence[_Entry], chains: dict[CeilingKey, Guarded | str], settings: Settings, tell: Tell
) -> tuple[list[Spread | None], dict[CeilingKey, Ceiling]]:
    """Everything that runs, in turn."""
    timed = {i: entry.run for i, entry in enumerate(entries) if entry.run is not None and entry.why_not is None}
    products = {key: run for key, run in chains.items() if isinstance(run, Guarded) and run.failure is None}
    rounds = iter(range(1, settings.repeats + 1))
    times = interleaved_times(
        [*timed.values(), *products.values()],
        settings.repeats,
        warm_ups=1,
        shuffle_seed=settings.seed,
        pause_s=settings.pause_s,
        after_round=lambda: tell(f"timed round {next(rounds)} of {settings.repeats}"),
    )
    by_row = dict(zip(timed, times, strict=False))
    spreads = [
        summarise(by_row[i]) if i in by_row and entry.why_not is None else None for i, entry in enumerate(entries)
    ]
    of_products = dict(zip(products, times[len(timed) :], strict=True))
    return spreads, {key: _ceiling(key, run, of_products.get(key), settings) for key, run in chains.items()}


def _ceiling(key: CeilingKey, run: Guarded | str, times: list[float] | None, settings: Settings) -> Ceiling:
    failure = run if isinstance(run, str) else run.failure
    if failure is not None or times is None:
        return Ceiling(key.engine, key.precision, key.device, unavailable=failure)
    spread = summarise(times)
    gflops = ceiling_gflops(settings.matmul_side, spread.median_s)
    return Ceiling(key.engine, key.precision, key.device, gflops, spread)


def _row(entry: _Entry, spread: Spread | None, ceilings: dict[CeilingKey, Ceiling]) -> Row:
    combination, key = entry.combination, entry.key
    row = Row(combination, key.engine, key.precision, key.device, entry.why_not, memory=entry.memory)
    if spread is None or entry.predictor is None:
        return row
    network, notes = _network(entry.predictor, combination.size)
    ceiling = ceilings.get(key)
    gflops = ceiling.gflops if ceiling else None
    share = None
    if gflops is not None and network.macs is not None:
        share = share_of_ceiling(network.macs, combination.batch, spread.median_s, gflops)
    if ceiling and ceiling.unavailable:
        notes.append(f"no ceiling: {ceiling.unavailable}")
    return replace(
        row,
        model_digest=entry.predictor.digest,
        spread=spread,
        images_per_s=combination.batch / spread.median_s,
        network=network,
        ceiling=gflops,
        ceiling_share=share,
        agreement=entry.agreement,
        notes=(*entry.notes, *notes),
    )


def _network(predictor: Predictor, size: Size) -> tuple[Network, list[str]]:
    seen = working_size(size, predictor.header.short_side_px)
    try:
        return Network(seen, *network_cost(predictor.header, size)), []
    except ModuleNotFoundError as error:
        return Network(seen, None, None), [f"operations are counted with '{error.name}', which is not installed"]
