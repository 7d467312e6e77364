"""A fake network that knows how sure it is."""

import numpy as np
from service_running import DIGEST, HEADER, FakeEngine

from roadseg.inference.predictor import Predictor


def confidence_of(pixels):
    """The confidence of the fake network: from each pixel's colour, (..., 3) uint8 -> (...) float32 in 0..1."""
    return (pixels[..., 0].astype(np.float32) * 0.5 + pixels[..., 2].astype(np.float32) * 0.5) / np.float32(255)


class ScoredEngine(FakeEngine):
    """Also gives confidences, where they are asked for."""

    def run(self, images, outputs, *, rescale=True):
        computed = super().run(images, ("mask",), rescale=rescale)
        return {**computed, "confidence": confidence_of(images)} if "confidence" in outputs else computed


def scored_predictor(engine=None, **options):
    return Predictor(engine or ScoredEngine(), HEADER, DIGEST, **options)
