"""Contact sheets of the frames that a model segments worst."""

import numpy as np
import numpy.typing as npt

from roadseg.audit.pictures import set_colours
from roadseg.evaluation.drawing import (
    UNLABELLED,
    WRONG,
    Picture,
    error_map,
    fit,
    jpeg_bytes,
    label_map,
    legend,
    side_by_side,
    stacked,
    text_line,
    titled,
)
from roadseg.evaluation.evaluate import Evaluation
from roadseg.evaluation.frames import ScoredFrames
from roadseg.inference.predictor import Predictor

PATTERN = "worst/*.jpg"
_FRAMES_A_SHEET = 5
_TILE_PX = 400


def worst_sheets(predictor: Predictor, frames: ScoredFrames, evaluation: Evaluation) -> dict[str, bytes]:
    """Sheets of five frames each, image | truth | prediction | errors; the frames are segmented once more.

    Args:
        predictor: the model.
        frames: that were scored.
        evaluation: which are the worst.

    Returns:
        File name -> JPEG.
    """
    sheets = {}
    for start in range(0, len(evaluation.worst), _FRAMES_A_SHEET):
        seen = np.zeros(256, bool)
        rows = []
        for place in range(start, min(start + _FRAMES_A_SHEET, len(evaluation.worst))):
            index, miou = evaluation.worst[place]
            rows.append(_row(predictor, frames, index, f"{place + 1}. {frames.name(index)}: mIoU {miou:.3f}", seen))
        sheet = stacked([*rows, _legend(frames, seen, rows[0].shape[1])])
        sheets[f"worst/{start // _FRAMES_A_SHEET + 1:02d}.jpg"] = jpeg_bytes(sheet)
    return sheets


def _row(predictor: Predictor, frames: ScoredFrames, index: int, title: str, seen: npt.NDArray[np.bool_]) -> Picture:
    frame = frames.read(index)
    mask = predictor(frame.image, name=frame.name).mask
    errors, share = error_map(frame.image, mask, frame.truth, frames.label_sets)
    seen[np.unique(mask)] = seen[np.unique(frame.truth)] = True
    tiles = {
        "image": frame.image,
        "truth": label_map(frame.truth, frames.label_sets),
        "prediction": label_map(mask, frames.label_sets),
        f"errors: {share:.1%} of the labelled pixels": errors,
    }
    row = side_by_side([titled(fit(picture, _TILE_PX), caption) for caption, picture in tiles.items()])
    return stacked([text_line(title, row.shape[1]), row])


def _legend(frames: ScoredFrames, seen: npt.NDArray[np.bool_], width: int) -> Picture:
    colours = set_colours(frames.label_sets)
    entries = [(name, colours[i]) for i, name in enumerate(frames.label_sets.names) if seen[i]]
    return legend([*entries, ("not labelled", UNLABELLED), ("wrong", WRONG)], width)
