"""Road data: datasets, augmentation, and the data module that feeds training."""
