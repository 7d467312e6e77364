"""Pseudo-labels: masks that a model drew where it is sure, for training on frames that nobody labelled."""
