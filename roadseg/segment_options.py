"""The options of `roadseg segment`."""

import argparse
from collections.abc import Callable

from roadseg.arguments import whole_from_1
from roadseg.image_size import size_name
from roadseg.inference.options import InferenceOptions

TTA_SCALES = (0.75, 1.0, 1.25)
PRELABELS = ("cvat", "labelstudio", "coco")

_DEFAULTS = InferenceOptions()


def add_segment_options(
    parser: argparse.ArgumentParser, add_model_options: Callable[[argparse._ActionsContainer], None]
) -> None:
    """Add them to a parser.

    Args:
        parser: of the command.
        add_model_options: adds the options that choose model and engine.
    """
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGES",
        help="image files (JPEG, PNG, WebP), folders to search through with all below them, and video files",
    )
    _add_outputs(parser)
    _add_inputs(parser)
    group = parser.add_argument_group("model and engine")
    add_model_options(group)
    group.add_argument(
        "--engine",
        default="auto",
        help="auto, torch, torch-compile, onnx, openvino or tensorrt; an exported model has its own (default: auto)",
    )
    _add_large_jobs(parser)
    _add_inference(parser)
    _add_labelling(parser)


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is written")
    group.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="folder for the masks, a NAME.png for each image in folders like those of the images, and for the record "
        "of the run, manifest.jsonl",
    )
    group.add_argument("--overlay", action="store_true", help="also write NAME_overlay.png, the mask over the image")
    group.add_argument(
        "--confidence", action="store_true", help="also write NAME_confidence.png, 8-bit grey: 255 x confidence"
    )


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is read")
    group.add_argument(
        "--orientation",
        choices=("displayed", "stored"),
        default="displayed",
        help="turn images as their EXIF tag says, or take the raster as it is stored (default: displayed)",
    )
    group.add_argument(
        "--video",
        choices=("frames", "mask"),
        help="what a video becomes: a folder of masks (frames), or one lossless .mkv of class ids (mask); with this "
        "option videos in folders are taken, too (default: only those that are named, as mask)",
    )


def _add_large_jobs(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("large jobs")
    group.add_argument(
        "--resume",
        action="store_true",
        help="go on with an earlier run: leave what it did with the same model and options",
    )
    group.add_argument(
        "--overwrite", action="store_true", help="begin anew: what earlier runs wrote to OUT is removed or replaced"
    )
    group.add_argument(
        "--shard", metavar="I/N", help="only the I-th of N parts, for N machines, from 1/N to N/N (default: all)"
    )
    group.add_argument(
        "--batch-size",
        type=whole_from_1,
        default=1,
        metavar="N",
        help="images of one size that run together (default: 1, which is best on a CPU)",
    )
    group.add_argument(
        "--workers",
        type=whole_from_1,
        metavar="N",
        help="threads that read, and as many that write (default: the number of cores, from 2 to 8)",
    )


def _add_inference(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("inference")
    group.add_argument(
        "--max-pixels",
        type=whole_from_1,
        metavar="N",
        help="images of more pixels than this, counted at the size that the network sees, are seen in windows "
        f"(default: {_DEFAULTS.max_pixels})",
    )
    group.add_argument(
        "--window",
        metavar="HxW",
        help=f"height and width of windows in px, multiples of 32 (default: {size_name(_DEFAULTS.window)})",
    )
    group.add_argument(
        "--overlap",
        type=float,
        metavar="SHARE",
        help=f"share that neighbouring windows have in common, 0 to 0.9 (default: {_DEFAULTS.overlap})",
    )
    group.add_argument(
        "--scales", type=_scales, metavar="S,...", help="average over these scales, such as 0.75,1,1.5 (default: 1)"
    )
    group.add_argument("--flip", action="store_true", help="average with the mirrored image")
    group.add_argument(
        "--tta", action="store_true", help=f"the same as --flip --scales {','.join(f'{s:g}' for s in TTA_SCALES)}"
    )
    group.add_argument(
        "--min-confidence",
        type=float,
        metavar="SHARE",
        help="pixels of less confidence become 255 in the mask, 0 to 1 (default: none do)",
    )
    group.add_argument(
        "--confidence-kind",
        choices=("probability", "margin"),
        help="the class's probability, or its margin over the second's (default: probability)",
    )


def _add_labelling(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("labelling", "Of images; take the frames of a video first to list them.")
    group.add_argument(
        "--rank",
        choices=("uncertainty",),
        help="list the images most worth labelling in OUT/ranking.csv and .jsonl, each standing for its neighbours",
    )
    group.add_argument(
        "--to",
        action="append",
        default=[],
        choices=PRELABELS,
        help="also write the masks as pre-labels that this tool imports, to OUT; repeatable",
    )
    group.add_argument(
        "--image-url",
        default="/data/local-files/?d=",
        metavar="PREFIX",
        help="of --to labelstudio: what Label Studio finds an image's path behind, such as s3://bucket/drive/ "
        "(default: /data/local-files/?d=, its local files)",
    )


def _scales(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}'; use numbers with commas between, such as 0.75,1,1.5") from None
