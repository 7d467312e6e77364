"""Inference: from an image to a mask. Never imports Lightning or albumentations."""
