"""`roadseg data pseudo-label`."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roadseg.inference.bundled import BUNDLED_MODELS, DEFAULT_MODEL

if TYPE_CHECKING:
    from roadseg.pseudo_labels.labelling import PseudoLabelReport

_SHOWN_FAILURES = 20


def add_pseudo_label_command(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command.

    Args:
        add: of name, summary, example and function, as in `roadseg.cli`.
    """
    parser = add(
        "pseudo-label",
        "label images with a model where it is sure, for training on them",
        "roadseg data pseudo-label drives/ --model model.safetensors -o pseudo",
        _run,
    )
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="image files, and folders to search through")
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        help=f"model file (.safetensors), or a bundled model: {', '.join(BUNDLED_MODELS)} (default: {DEFAULT_MODEL})",
    )
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for images, masks and report")
    parser.add_argument(
        "--keep-share",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="of each class, keep this part of its pixels, the most confident ones; 1 keeps all (default: 0.5)",
    )
    parser.add_argument(
        "--max-threshold",
        type=float,
        default=0.9,
        metavar="P",
        help="what is at least this sure is kept in any case; 1 leaves it to --keep-share (default: 0.9)",
    )
    parser.add_argument(
        "--min-confidence",
        type=float,
        default=0.0,
        metavar="P",
        help="no pixel below it is kept in any case (default: 0)",
    )
    parser.add_argument(
        "--sample-frames",
        type=int,
        default=2000,
        metavar="N",
        help="images, drawn at random, on which the thresholds of the classes are measured (default: 2000)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the draw (default: 0)")
    parser.add_argument("--resume", action="store_true", help="go on with a folder that was begun, as it was begun")
    parser.add_argument(
        "--batch-size", type=int, default=1, metavar="N", help="images of one size that run together (default: 1)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--precision", default="auto", help="auto, f32 or bf16 (default: auto, which is f32)")
    parser.add_argument(
        "--ignore-regions",
        metavar="FILE",
        help="YAML list of polygons that are not labelled, such as the car's own hood",
    )


def _run(args: argparse.Namespace) -> int:
    from roadseg.ignore_regions import load_regions
    from roadseg.inference.predictor import load_predictor
    from roadseg.pseudo_labels.images import UnlabelledImages
    from roadseg.pseudo_labels.labelling import PseudoLabelOptions, pseudo_label

    options = PseudoLabelOptions(
        args.keep_share, args.max_threshold, args.min_confidence, args.sample_frames, args.seed
    )
    images = UnlabelledImages(args.images)
    regions = load_regions(args.ignore_regions) if args.ignore_regions else None
    more: dict[str, Any] = {"ignore_regions": _digest(args.ignore_regions) if regions else None}
    predictor = load_predictor(args.model, precision=args.precision, device=args.device, ignore_regions=regions)
    report = pseudo_label(
        predictor,
        images,
        args.output,
        options,
        resume=args.resume,
        batch_size=args.batch_size,
        more_settings=more,
    )
    _tell(report, predictor.taxonomy.names, args.output)
    return 1 if report.failed else 0


def _digest(path: str) -> str:
    import hashlib

    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _tell(report: "PseudoLabelReport", names: list[str], output: str) -> None:
    predicted, kept = report.tally.predicted.tolist(), report.tally.kept.tolist()
    width = max(map(len, names))
    print(f"{'class':{width}}  {'predicted px':>15}  {'kept px':>15}  kept")
    for name, before, after in zip(names, predicted, kept, strict=True):
        print(f"{name:{width}}  {before:15,}  {after:15,}  " + (f"{after / before:4.0%}" if before else "   -"))
    print(f"{report.labelled} masks in {output}, {report.resumed} of them of earlier runs, {report.empty} empty")
    none_kept = [name for name, before, after in zip(names, predicted, kept, strict=True) if before and not after]
    if none_kept:
        print(
            f"nothing was kept of {', '.join(none_kept)}: frames on which they occur teach everything but them; label "
            "some by hand, or lower --min-confidence or --max-threshold",
            file=sys.stderr,
        )
    if report.failed:
        print(f"{report.failed} images could not be used:", file=sys.stderr)
        for failure in report.failures[:_SHOWN_FAILURES]:
            print(f"  error: {failure['error']}", file=sys.stderr)
        if report.failed > _SHOWN_FAILURES:
            print(f"  and {report.failed - _SHOWN_FAILURES} more; see {Path(output) / 'report.json'}", file=sys.stderr)
