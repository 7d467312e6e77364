"""Road data: datasets, augmentation, and the data module that feeds training. The names load on first use."""

from typing import TYPE_CHECKING

from roadseg.lazy import lazy_names

__all__ = ["DatasetConfig", "RoadDataModule", "SyntheticRoadDataset", "open_dataset", "open_frames", "render_scene"]

if TYPE_CHECKING:
    from roadseg.data.datamodule import RoadDataModule
    from roadseg.data.dataset_config import DatasetConfig
    from roadseg.data.mixture import open_frames
    from roadseg.data.registry import open_dataset
    from roadseg.data.synthetic import SyntheticRoadDataset, render_scene

__getattr__ = lazy_names(
    "roadseg.data",
    {
        "DatasetConfig": "roadseg.data.dataset_config",
        "RoadDataModule": "roadseg.data.datamodule",
        "open_dataset": "roadseg.data.registry",
        "open_frames": "roadseg.data.mixture",
        "SyntheticRoadDataset": "roadseg.data.synthetic",
        "render_scene": "roadseg.data.synthetic",
    },
)
