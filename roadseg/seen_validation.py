"""Warning of validation frames that a model was trained on from which a training starts, or by which it is taught."""

from lightning.pytorch.utilities import rank_zero_warn

from roadseg.data.datamodule import RoadDataModule
from roadseg.evaluation.frames import ScoredFrames
from roadseg.evaluation.seen import seen_in_training
from roadseg.inference.package import ModelHeader


def warn_of_seen_validation(setting: str, model: str, header: ModelHeader, data: object) -> None:
    """Say when a model file's training frames are among those that a run validates on.

    Args:
        setting: that names the model, for the message: model.init_from.
        model: as the setting names it.
        header: of the model file.
        data: the run's data module; nothing can be said of one that is not roadseg's, or that validates on nothing.
    """
    if not isinstance(data, RoadDataModule):
        return
    parts = data.open().splits["val"]
    if not any(map(len, parts)):
        return
    seen = seen_in_training(header.provenance, header.taxonomy, ScoredFrames(parts), data)
    if seen.verdict is True:
        rank_zero_warn(
            f"{setting}: {model} was trained on {seen.frames} of this run's {seen.of} validation frames, so that "
            "val/miou flatters; hold out drives that it has not seen, or take a model that was trained without them"
        )
