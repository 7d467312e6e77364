"""Float32 that is float32, in PyTorch.

On GPUs cuDNN rounds the factors of convolutions to 10 bits (TF32) unless it is told not to, and a user's
`torch.set_float32_matmul_precision` does the same to matrix products, on CPUs even to 7 bits (bf16). Both are settings
of the whole process, which others may rely on: they are changed while a network runs, and put back.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch

_FULL, _ROUNDED, _INHERITED = "ieee", "tf32", "none"

_backends: Any = torch.backends  # its types lack these attributes
_PLACES = (
    _backends.cudnn.conv,
    _backends.cudnn.rnn,
    _backends.cuda.matmul,
    _backends.mkldnn.conv,
    _backends.mkldnn.matmul,
)


class _Precision:
    """The process's settings, exact while anybody needs them so.

    torch has older settings beside the newer ones, and raises errors where they contradict each other, whoever asks.
    Both are set.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._users = 0
        self._before: tuple[str | None, list[str]] = (None, [])

    def enter(self) -> None:
        with self._lock:
            if self._users == 0:
                self._before = _products(), [place.fp32_precision for place in _PLACES]
                torch.set_float32_matmul_precision("highest")
                _backends.cudnn.allow_tf32 = False
                for place in _PLACES:
                    place.fp32_precision = _FULL
            self._users += 1

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users:  # another thread's network still runs
                return
            products, places = self._before
            if products is not None:
                torch.set_float32_matmul_precision(products)
            _backends.cudnn.allow_tf32 = places[0] == _ROUNDED
            for place, before in zip(_PLACES, places, strict=True):
                place.fp32_precision = _INHERITED  # what was read may be what a more general setting says
                if place.fp32_precision != before:
                    place.fp32_precision = before


def _products() -> str | None:
    """The older setting for products; None where the process has used the newer ones, which it then contradicts."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


_precision = _Precision()


@contextmanager
def exact_float32() -> Iterator[None]:
    """Within it, float32 products and convolutions are computed in float32; threads may be in it together."""
    _precision.enter()
    try:
        yield
    finally:
        _precision.leave()
