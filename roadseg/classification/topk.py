"""Top-1 and top-5 accuracy of a split."""

import torch
from torch import Tensor, distributed


class TopKCounter:
    """Counts images whose class is among the highest logits, exactly, in int64.

    A plain object, as `roadseg.metrics.confusion.ConfusionMatrix` is, and for the same reason.

    Args:
        ks: how many of the highest logits; where there are fewer classes, all of them.
    """

    def __init__(self, ks: tuple[int, ...] = (1, 5)) -> None:
        self.ks = ks
        self.reset()

    def reset(self) -> None:
        """Forget everything counted."""
        self._counts = torch.zeros(len(self.ks) + 1, dtype=torch.int64)  # hits by k, then images

    def update(self, logits: Tensor, label: Tensor) -> None:
        """Count a batch.

        Args:
            logits: (B, C).
            label: (B,) class ids.
        """
        best = logits.float().topk(min(max(self.ks), logits.shape[1])).indices
        hits = best == label[:, None]
        counts = torch.stack([hits[:, :k].sum() for k in self.ks] + [hits.new_tensor(len(label), dtype=torch.int64)])
        self._counts = self._counts.to(counts.device) + counts

    def accuracies(self) -> dict[str, float]:
        """`top1` and `top5` of all processes together, NaN when nothing was counted. Collective."""
        counts = self._counts.clone()
        if distributed.is_available() and distributed.is_initialized():
            device = torch.device("cuda") if distributed.get_backend() == "nccl" else torch.device("cpu")
            counts = counts.to(device)
            distributed.all_reduce(counts)
        *hits, images = counts.double().cpu()
        return {f"top{k}": float(hit / images) for k, hit in zip(self.ks, hits, strict=True)}
