"""What a benchmark finds."""

from dataclasses import dataclass
from typing import Any

from roadseg.benching.combinations import Combination
from roadseg.benching.timing import Spread
from roadseg.image_size import Size


@dataclass(frozen=True)
class Memory:
    """Of a fresh process that loads one model and segments twice, in MiB; see `roadseg.benching.probe`.

    Attributes:
        peak_mib: the most that was ever resident: interpreter, runtime, loading and segmenting.
        ready_mib: resident once the model is loaded.
        run_mib: by how much segmenting goes beyond that.
        device_mib: memory of the GPU that was taken; None on a CPU.
        load_s: seconds to import the runtime and load the model.
        first_s: seconds of the first run after that.
    """

    peak_mib: float
    ready_mib: float
    run_mib: float
    device_mib: float | None
    load_s: float
    first_s: float


@dataclass(frozen=True)
class Ceiling:
    """The most that an engine computes at a precision; see `roadseg.benching.ceilings`.

    Attributes:
        engine: its name.
        precision: its name.
        device: where.
        gflops: 10^9 operations a second, from the median; None where it could not be measured.
        spread: of the chain's seconds.
        unavailable: why there is none.
    """

    engine: str
    precision: str
    device: str
    gflops: float | None = None
    spread: Spread | None = None
    unavailable: str | None = None


@dataclass(frozen=True)
class Network:
    """What a model computes for one image.

    Attributes:
        working_size: (H, W) at which the network sees the image.
        parameters: numbers that are learned; None without torch, which counts them.
        macs: multiply-accumulates, attention's products among them; None without torch.
    """

    working_size: Size
    parameters: int | None
    macs: int | None


@dataclass(frozen=True)
class Row:
    """One combination, measured, or why not.

    Attributes:
        combination: what was asked for.
        engine: that it ran in; what was asked for where it did not run.
        precision: that it ran at.
        device: that it ran on.
        unavailable: why there are no times; None where there are.
        model_digest: of the model file or artefact; None where it could not be loaded.
        spread: of the seconds of a batch.
        images_per_s: batch by median.
        network: what it computes.
        ceiling: of its engine at its precision, 10^9 operations a second.
        ceiling_share: of it that the network reaches.
        memory: None where it was not measured.
        agreement: share of pixels with the class that torch in float32 gives.
        notes: why a figure is missing.
    """

    combination: Combination
    engine: str
    precision: str
    device: str
    unavailable: str | None = None
    model_digest: str | None = None
    spread: Spread | None = None
    images_per_s: float | None = None
    network: Network | None = None
    ceiling: float | None = None
    ceiling_share: float | None = None
    memory: Memory | None = None
    agreement: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Settings:
    """How it is measured.

    Attributes:
        repeats: times that each combination is timed.
        warm_ups: times that it runs before.
        seed: of the order in each round.
        pause_s: before each timed run; see `interleaved_times`.
        matmul_side: of the matrices of the ceiling; 0 leaves it out.
        threads: of each engine; None is its own choice.
        memory: whether each combination also runs in a process of its own, for its memory.
        agreement: whether masks are compared with torch's in float32.
    """

    repeats: int = 15
    warm_ups: int = 2
    seed: int = 0
    pause_s: float = 0.02
    matmul_side: int = 2048
    threads: int | None = None
    memory: bool = True
    agreement: bool = True


@dataclass(frozen=True)
class Report:
    """Everything that one benchmark found.

    Attributes:
        machine: see `describe_machine`; its load is that from before anything ran.
        software: versions.
        settings: how it was measured.
        ceilings: one an engine, precision and device.
        rows: one a combination, in the order asked for.
    """

    machine: dict[str, Any]
    software: dict[str, str]
    settings: Settings
    ceilings: tuple[Ceiling, ...]
    rows: tuple[Row, ...]
