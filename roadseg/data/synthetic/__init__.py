"""Procedural road scenes with exact labels, drawn from a seed: no files, no downloads, only numpy and OpenCV.

The world is planned in metres (`plan_scene`), seen through a pinhole camera, and painted far to near; picture and mask
come from the same raster. `render_scene` gives one scene, `SyntheticRoadDataset` as many as asked for.
"""

from roadseg.data.synthetic.camera import Camera, RoadCurve
from roadseg.data.synthetic.classes import SYNTHETIC_TAXONOMY, Label
from roadseg.data.synthetic.dataset import SyntheticRoadDataset
from roadseg.data.synthetic.layout import LaneLine, SceneLayout, plan_scene
from roadseg.data.synthetic.scene import Scene, render_layout, render_scene

__all__ = [
    "SYNTHETIC_TAXONOMY",
    "Camera",
    "Label",
    "LaneLine",
    "RoadCurve",
    "Scene",
    "SceneLayout",
    "SyntheticRoadDataset",
    "plan_scene",
    "render_layout",
    "render_scene",
]
