"""Beginning a training at half resolution: four times the frames for the same work, then the details.

Training with small images first is fastai's progressive resizing, and EfficientNetV2's progressive learning
(arXiv 2104.00298). Whole batches are halved on their way into the network, so that crops, their context and everything
else in the recipe stay what they are.
"""

from torch import Tensor
from torch.nn import functional as F

from roadseg.errors import ConfigError


def halve(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """A batch at half its size; a last odd row or column is left out.

    Args:
        image: (B, 3, H, W) RGB in 0..255, uint8 or float, both sides at least 2 px.
        mask: (B, H, W) set ids.

    Returns:
        Means of 2 x 2 pixels (B, 3, H // 2, W // 2) float, and the label of the last pixel of each four: an id cannot
        be averaged. So labels lie half a pixel of the batch's off.
    """
    halved = F.avg_pool2d(image if image.is_floating_point() else image.float(), 2)
    return halved, mask[:, 1::2, 1::2].contiguous()


def check_coarse_steps(coarse_steps: int) -> None:
    """Check the setting `model.coarse_steps`.

    Raises:
        ConfigError: when it is no number of steps.
    """
    if type(coarse_steps) is not int or coarse_steps < 0:
        raise ConfigError(f"model.coarse_steps is {coarse_steps!r}; use a whole number of steps, 0 for none")


def check_steps_left(coarse_steps: int, total_steps: int) -> None:
    """Check that a run has steps at full size, at which its model is scored and served.

    Raises:
        ConfigError: when it has none.
    """
    if coarse_steps and coarse_steps >= total_steps:
        raise ConfigError(
            f"model.coarse_steps is {coarse_steps}, and the run has {total_steps} steps: none would be at full size, "
            "at which the model is scored and served; lower the one, or raise trainer.max_steps or max_epochs"
        )
