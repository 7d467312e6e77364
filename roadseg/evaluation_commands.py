"""`roadseg eval` and `roadseg compare`: models against labelled frames."""

import argparse
import sys
from collections.abc import Callable

from roadseg.arguments import name_list, whole_from_0, whole_from_1
from roadseg.errors import plural

Add = Callable[..., argparse.ArgumentParser]

_MODEL = "model file (.safetensors), folder of an exported model (roadseg export), or the name of a bundled model"


def add_evaluation_commands(add: Add) -> None:
    """Add the commands.

    Args:
        add: of name, summary, example and function, as in `roadseg.cli`.
    """
    _add_eval(add)
    _add_compare(add)


def _add_eval(add: Add) -> None:
    parser = add(
        "eval",
        "score a model on labelled frames: IoU, edges, thin things, calibration",
        "roadseg eval roadseg-nano -c configs/camvid_mixture.yaml -o scores",
        _eval,
    )
    parser.add_argument("model", metavar="MODEL", help=_MODEL)
    _add_frames_and_output(parser)
    parser.add_argument(
        "--worst", type=whole_from_0, default=20, metavar="N", help="frames on the sheets of the worst (default: 20)"
    )


def _add_compare(add: Add) -> None:
    parser = add(
        "compare",
        "score two models on the same frames: differences with confidence intervals, cost, pictures",
        "roadseg compare deeplabv3plus-mobilenet roadseg-nano -c configs/camvid_mixture.yaml -o comparison",
        _compare,
    )
    for name in ("a", "b"):
        parser.add_argument(f"model_{name}", metavar=name.upper(), help=_MODEL)
    _add_frames_and_output(parser)
    parser.add_argument(
        "--pictures", type=whole_from_0, default=8, metavar="N", help="frames that are drawn side by side (default: 8)"
    )
    parser.add_argument(
        "--replicates", type=whole_from_1, default=1000, metavar="N", help="of the bootstrap (default: 1000)"
    )
    parser.add_argument("--seed", type=whole_from_0, default=0, metavar="N", help="of the bootstrap (default: 0)")


def _add_frames_and_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-c", "--config", required=True, metavar="DATA", help="training configuration, or its data section"
    )
    parser.add_argument("--split", choices=("train", "val", "test"), default="val", help="frames (default: val)")
    parser.add_argument(
        "--frames",
        type=whole_from_1,
        metavar="N",
        help="only so many frames, spread evenly over the split (default: all)",
    )
    parser.add_argument(
        "--thin-classes",
        type=name_list,
        metavar="NAME,...",
        help="classes whose skeletons are scored (default: lane markings, poles, lamps and signs)",
    )
    parser.add_argument("-o", "--output", metavar="DIR", help="folder for JSON, CSV and pictures (default: none)")
    parser.add_argument("--overwrite", action="store_true", help="replace results in a folder that is not empty")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument(
        "--engine",
        default="auto",
        help="auto or torch; an exported model has its own (default: auto, see docs/engines.md)",
    )
    parser.add_argument(
        "--precision",
        default="auto",
        help="auto, f32 or bf16; an exported model has its own (default: auto, which is f32)",
    )


def _eval(args: argparse.Namespace) -> int:
    from roadseg.data.config import read_data_config
    from roadseg.evaluation.evaluate import evaluate
    from roadseg.evaluation.frames import data_facts, open_scored
    from roadseg.evaluation.output import check_folder, write_files
    from roadseg.evaluation.report import eval_files, eval_text, model_facts
    from roadseg.evaluation.seen import seen_in_training
    from roadseg.evaluation.worst import PATTERN, worst_sheets
    from roadseg.inference.predictor import load_predictor

    folder = check_folder(args.output, args.overwrite) if args.output else None
    predictor = load_predictor(args.model, engine=args.engine, precision=args.precision, device=args.device)
    frames = open_scored(args.config, args.split, predictor.taxonomy, args.frames)
    evaluation = evaluate(predictor, frames, args.worst if folder else 0, args.thin_classes)
    model, data = model_facts(args.model, predictor), data_facts(args.config, args.split, frames)
    seen = seen_in_training(predictor.header.provenance, predictor.taxonomy, frames, read_data_config(args.config))
    print(_headline([model], data, [str(seen)]))
    print(eval_text(evaluation))
    if folder:
        files = eval_files(model, predictor, data, frames, evaluation, seen)
        write_files(folder, files | worst_sheets(predictor, frames, evaluation), [PATTERN])
        print(
            f"\nwrote {', '.join(files)} and pictures of the worst {plural(len(evaluation.worst), 'frame')} to {folder}"
        )
    return 0


def _compare(args: argparse.Namespace) -> int:
    from roadseg.data.config import read_data_config
    from roadseg.evaluation.compare import compare, matching_ids
    from roadseg.evaluation.comparison_report import compare_files, compare_text
    from roadseg.evaluation.cost import measure_costs
    from roadseg.evaluation.differences import PATTERN, difference_pictures
    from roadseg.evaluation.frames import data_facts, open_scored
    from roadseg.evaluation.output import check_folder, write_files
    from roadseg.evaluation.report import model_facts
    from roadseg.evaluation.seen import seen_in_training
    from roadseg.inference.predictor import load_predictor

    folder = check_folder(args.output, args.overwrite) if args.output else None
    names = (args.model_a, args.model_b)
    first, second = (
        load_predictor(name, engine=args.engine, precision=args.precision, device=args.device) for name in names
    )
    matching_ids(first.taxonomy, second.taxonomy)
    frames = open_scored(args.config, args.split, first.taxonomy, args.frames)
    pair = (first, second)
    found = compare(pair, frames, args.replicates, args.seed, args.pictures if folder else 0, args.thin_classes)
    print("measuring latency", file=sys.stderr)
    costs = measure_costs(pair, frames, found.sizes)
    models = [model_facts(name, predictor) for name, predictor in zip(names, pair, strict=True)]
    data = data_facts(args.config, args.split, frames)
    config = read_data_config(args.config)
    seen = [seen_in_training(p.header.provenance, p.taxonomy, frames, config) for p in pair]
    print(_headline(models, data, [f"{side}: {own}" for side, own in zip("AB", seen, strict=True)]))
    print(compare_text(found, costs))
    if folder:
        files = compare_files(models, data, frames, found, costs, seen)
        write_files(folder, files | difference_pictures(pair, [m["name"] for m in models], frames, found), [PATTERN])
        print(f"\nwrote {', '.join(files)} and {plural(len(found.differing), 'picture')} to {folder}")
    return 0


def _headline(models: list[dict[str, object]], data: dict[str, object], notes: list[str]) -> str:
    lines = [
        f"{m['name']}  sha256 {str(m['digest'])[:12]}  {m['backbone']} + {m['decoder']}  "
        f"{m['engine']} {m['precision']} on {m['device']}"
        for m in models
    ]
    part = "" if data["frames"] == data["frames_in_split"] else f" of {data['frames_in_split']}"
    return "\n".join([*lines, f"{data['config']}, split {data['split']}: {data['frames']}{part} frames", *notes, ""])
