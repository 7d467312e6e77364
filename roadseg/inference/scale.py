"""The size at which a network sees an image: a model's rule, the same in every engine."""

MAX_ASPECT = 8
"""Images longer than this times their width are enlarged to the inference scale by their long side."""


def working_size(size: tuple[int, int], short_side_px: int | None) -> tuple[int, int]:
    """(H, W) at which the network sees an image of (H, W) px: its own, or that with the short side asked for."""
    if short_side_px is None or min(size) == short_side_px:
        return size
    # A sliver would grow without bound: at most so that its long side reaches what an ordinary image's would.
    scale = min(short_side_px / min(size), max(1.0, MAX_ASPECT * short_side_px / max(size)))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
