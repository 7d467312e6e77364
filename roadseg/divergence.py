"""When a training's loss is no longer a number."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from roadseg.errors import DivergenceError, plural


def refuse_divergence(terms: Mapping[str, Tensor], step: int, lr: float) -> None:
    """Stop a training whose loss is not finite, and say which of its terms is to blame.

    Args:
        terms: name to term of the loss, scalars.
        step: optimizer steps done so far.
        lr: the peak learning rate.

    Raises:
        DivergenceError: when a term, or their sum, is not finite.
    """
    values = torch.stack([term.detach().float() for term in terms.values()])
    if torch.isfinite(values.sum()):
        return
    told = dict(zip(terms, values.tolist(), strict=True))
    wrong = {name: value for name, value in told.items() if not math.isfinite(value)}
    start = f"the loss is {float(values.sum())} at step {step}: "
    if not wrong or len(wrong) == len(told):
        raise DivergenceError(f"{start}the training diverged; lower model.lr, which is {lr}")
    parts = ", ".join(f"{name} is {value}" for name, value in wrong.items())
    fine = ", ".join(f"{name} {value:g}" for name, value in told.items() if name not in wrong)
    raise DivergenceError(
        f"{start}its {plural(len(wrong), 'term')} {parts}, while the rest is finite ({fine}); lower the weight of "
        f"what is not finite or leave it out, or lower model.lr, which is {lr}"
    )
