"""`roadseg segment`."""

import argparse
import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from roadseg.errors import ConfigError, RoadsegError
from roadseg.segment_options import TTA_SCALES, add_segment_options
from roadseg.signals import sigterm_as_interrupt

if TYPE_CHECKING:
    from roadseg.inference.options import InferenceOptions
    from roadseg.inference.predictor import Predictor
    from roadseg.inference.segmenting.plan import Plan
    from roadseg.inference.segmenting.progress import Progress
    from roadseg.inference.segmenting.run import Run, Summary

Add = Callable[[str, str, str, Callable[[argparse.Namespace], int]], argparse.ArgumentParser]


def add_segment_command(add: Add, add_model_options: Callable[[argparse._ActionsContainer], None]) -> None:
    """Add the command to a parser.

    Args:
        add: takes a command's name, summary, example and function; gives its parser.
        add_model_options: adds the options that choose model and engine.
    """
    parser = add(
        "segment",
        "write the masks of images",
        "roadseg segment drive/ photo.jpg -o masks --overlay",
        _segment,
    )
    add_segment_options(parser, add_model_options)


@sigterm_as_interrupt()
def _segment(args: argparse.Namespace) -> int:
    from roadseg.inference.segmenting.left_out import tell_left_out
    from roadseg.inference.segmenting.progress import Progress

    _quieten_decoders()
    plan = _planned(args)
    predictor, engine = _predictor(args)
    run = _prepared(args, plan, predictor)
    print(engine, file=sys.stderr)
    with Progress(len(plan)) as progress:
        summary = _segmented(run, progress)
    print(summary)
    if left_out := tell_left_out(plan.sources, plan.output, plan.videos_passed_over):
        print(left_out, file=sys.stderr)
    _write_listings(args, run, predictor)
    return 1 if summary.failed else 0


def _quieten_decoders() -> None:
    """What is wrong with a file is told once, in roadseg's words; the decoders' own lines would drown those."""
    import warnings

    import cv2

    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET; read when the first video is opened
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    warnings.filterwarnings("ignore", module=r"PIL\.")


def _planned(args: argparse.Namespace) -> "Plan":
    """What can be refused without the network is refused here."""
    from roadseg.inference.segmenting.plan import plan_files
    from roadseg.inference.segmenting.products import Products
    from roadseg.inference.segmenting.shards import parse_shard

    _options(args)
    plan = plan_files(
        args.images,
        args.output,
        products=Products(args.overlay, args.confidence),
        video=args.video,
        shard=parse_shard(args.shard) if args.shard else None,
        resume=args.resume,
        overwrite=args.overwrite,
    )
    _refuse_listed_videos(args, plan)
    return plan


def _refuse_listed_videos(args: argparse.Namespace, plan: "Plan") -> None:
    from roadseg.inference.segmenting.plan import is_video

    if not args.rank and not args.to:
        return
    named = (str(source) for source in plan.sources if is_video(source.name) and not source.is_dir())
    video = "--video" if args.video else next(named, None)
    if video is not None:
        option = "--rank" if args.rank else "--to"
        raise ConfigError(
            f"{option} lists images, and {video} asks for videos, too, of which no image files are there to label; "
            "segment videos by a command of their own, or take their frames first: ffmpeg -i VIDEO FOLDER/%06d.png"
        )


def _predictor(args: argparse.Namespace) -> tuple["Predictor", str]:
    """The predictor, and a line about its engine."""
    from roadseg.ignore_regions import load_regions
    from roadseg.inference.predictor import load_predictor
    from roadseg.picked_engine import engine_line, heard_reasons

    regions = load_regions(args.ignore_regions) if args.ignore_regions else None
    with heard_reasons() as messages:
        predictor = load_predictor(
            args.model,
            engine=args.engine,
            precision=args.precision,
            device=args.device,
            ignore_regions=regions,
            options=_options(args),
        )
    return predictor, engine_line(predictor.engine, messages)


def _prepared(args: argparse.Namespace, plan: "Plan", predictor: "Predictor") -> "Run":
    """All else that can be refused is refused here, before anything is written."""
    from roadseg.inference.segmenting.manifest import make_header
    from roadseg.inference.segmenting.names import readable
    from roadseg.inference.segmenting.pipeline import Pipeline
    from roadseg.inference.segmenting.run import Run

    pipeline = Pipeline(predictor, args.orientation, plan.products, args.batch_size, _workers(args))
    regions = args.ignore_regions
    digest = hashlib.sha256(Path(regions).read_bytes()).hexdigest() if regions else None
    header = make_header(readable(str(args.model)), predictor, args.orientation, digest, plan.sources)
    run = Run(plan, pipeline, header, args.resume, args.overwrite)
    run.check()
    return run


def _segmented(run: "Run", progress: "Progress") -> "Summary":
    from roadseg.inference.segmenting.names import readable

    manifest = readable(str(run.manifest))
    how = f"what is finished is recorded in {manifest}: the same command with --resume goes on from there"
    try:
        return run.segment(progress.report, progress.video_frames)
    except KeyboardInterrupt:
        print(f"\n{how}", file=sys.stderr)
        raise
    except RoadsegError as error:
        if not progress.reported:
            raise
        raise type(error)(f"{error}; {how}") from error


def _write_listings(args: argparse.Namespace, run: "Run", predictor: "Predictor") -> None:
    if not args.rank and not args.to:
        return
    from roadseg.inference.segmenting.names import readable
    from roadseg.inference.segmenting.prelabels import write_prelabels
    from roadseg.inference.segmenting.prelabels.format import Header
    from roadseg.inference.segmenting.ranking import rank_frames, write_ranking

    shard = run.plan.shard
    header = Header(predictor.taxonomy, readable(str(args.model)), predictor.digest, args.image_url)
    recorded = run.records()
    try:
        if args.rank:
            frames = ((job.relative, row) for job, row in run.finished(recorded))
            path = write_ranking(rank_frames(frames), run.plan.output, shard)
            print(f"wrote {readable(str(path))}")
        for name in dict.fromkeys(args.to):
            finished = run.finished(recorded)
            path = write_prelabels(name, header, finished, run.plan.output, shard=shard, workers=_workers(args))
            print(f"wrote {readable(str(path))}")
    finally:
        recorded.close()


def _options(args: argparse.Namespace) -> "InferenceOptions":
    from roadseg.image_size import parse_size
    from roadseg.inference.options import InferenceOptions

    if args.tta and args.scales:
        raise ConfigError("--tta has scales of its own; give --flip and --scales instead")
    given = {
        "max_pixels": args.max_pixels,
        "window": parse_size(args.window, "--window") if args.window else None,
        "overlap": args.overlap,
        "scales": TTA_SCALES if args.tta else args.scales,
        "flip": args.flip or args.tta or None,
        "min_confidence": args.min_confidence,
        "confidence_kind": args.confidence_kind,
    }
    return InferenceOptions(**{name: value for name, value in given.items() if value is not None})


def _workers(args: argparse.Namespace) -> int:
    return args.workers or min(8, max(2, os.cpu_count() or 2))
