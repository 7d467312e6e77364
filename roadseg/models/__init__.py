"""Networks: backbones, decoders, and the segmenter that joins them. Never imports Lightning or albumentations."""
