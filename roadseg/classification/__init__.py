"""Pretraining a backbone as an image classifier: data, augmentation, scores and the training task."""
