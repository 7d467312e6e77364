"""Road data: datasets, augmentation, and the data module that feeds training. The names load on first use."""

from typing import TYPE_CHECKING

from roadseg.lazy import lazy_names

__all__ = ["CamVidDataset", "RoadDataModule", "SyntheticRoadDataset", "render_scene"]

if TYPE_CHECKING:
    from roadseg.data.camvid import CamVidDataset
    from roadseg.data.datamodule import RoadDataModule
    from roadseg.data.synthetic import SyntheticRoadDataset, render_scene

__getattr__ = lazy_names(
    "roadseg.data",
    {
        "CamVidDataset": "roadseg.data.camvid",
        "RoadDataModule": "roadseg.data.datamodule",
        "SyntheticRoadDataset": "roadseg.data.synthetic",
        "render_scene": "roadseg.data.synthetic",
    },
)
