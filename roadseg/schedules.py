"""Learning rates over a run."""

import math
from collections.abc import Callable


def warmup_poly(total_steps: int, warmup_steps: int, power: float) -> Callable[[int], float]:
    """Factor of the learning rate at a step: linear from 0 up to 1 while warming up, then (1 - progress) ** power.

    Args:
        total_steps: optimizer steps of the run; the factor reaches 0 after the last.
        warmup_steps: steps of the linear part; a run shorter than twice that warms up for a tenth of it instead.
        power: of the polynomial.

    Returns:
        Step, counted from 0, to factor in 0..1.
    """
    return _after_warmup(total_steps, warmup_steps, lambda progress: (1.0 - progress) ** power)


def warmup_cosine(total_steps: int, warmup_steps: int) -> Callable[[int], float]:
    """Factor of the learning rate at a step: linear from 0 up to 1 while warming up, then (1 + cos(pi progress)) / 2.

    Args:
        total_steps: optimizer steps of the run; the factor reaches 0 after the last.
        warmup_steps: steps of the linear part; a run shorter than twice that warms up for a tenth of it instead.

    Returns:
        Step, counted from 0, to factor in 0..1.
    """
    return _after_warmup(total_steps, warmup_steps, lambda progress: (1.0 + math.cos(math.pi * progress)) / 2)


def _after_warmup(total_steps: int, warmup_steps: int, decay: Callable[[float], float]) -> Callable[[int], float]:
    """A linear warm-up, then `decay` of the progress from 0 to 1."""
    warmup = warmup_steps if total_steps >= 2 * warmup_steps else total_steps // 10

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return decay(min(1.0, (step - warmup) / max(1, total_steps - warmup)))

    return factor
