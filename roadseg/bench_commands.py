"""`roadseg bench`: models on engines, measured in turn."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from roadseg.arguments import name_list, whole_from_1, wholes_from_1
from roadseg.errors import ConfigError
from roadseg.inference.bundled import DEFAULT_MODEL

Add = Callable[..., argparse.ArgumentParser]


def add_bench_commands(add: Add) -> None:
    """Add the command.

    Args:
        add: of name, summary, example and function, as in `roadseg.cli`.
    """
    parser = add(
        "bench",
        "measure models on engines: time, memory, share of the machine's ceiling, agreement with torch",
        "roadseg bench roadseg-nano deeplabv3plus-mobilenet --engines torch,openvino --plot bench.png",
        _bench,
    )
    parser.add_argument(
        "models",
        nargs="*",
        default=[DEFAULT_MODEL],
        metavar="MODEL",
        help=f"model files, exported folders, names of bundled models (default: {DEFAULT_MODEL})",
    )
    _add_grid(parser)
    _add_measuring(parser)


def _add_grid(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is combined; each takes several, with commas between")
    group.add_argument(
        "--engines",
        type=name_list,
        default=[],
        metavar="NAME,...",
        help="torch, torch-compile, onnx, openvino, tensorrt, auto (default: each of a model file, a folder's own)",
    )
    group.add_argument(
        "--precisions",
        type=name_list,
        default=["auto"],
        metavar="NAME,...",
        help="f32, bf16, f16, int8, auto (default: auto, f32 for a model file, a folder's own)",
    )
    group.add_argument(
        "--sizes",
        type=name_list,
        default=["512x1024"],
        metavar="HxW,...",
        help="height and width of the images in px (default: 512x1024)",
    )
    group.add_argument(
        "--batches", type=wholes_from_1, default=[1], metavar="N,...", help="images that run together (default: 1)"
    )


def _add_measuring(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how it is measured, and where the findings go")
    group.add_argument(
        "--repeats",
        type=whole_from_1,
        default=15,
        metavar="N",
        help="rounds, in each of which everything is timed once (default: 15)",
    )
    group.add_argument("--threads", type=whole_from_1, metavar="N", help="of each engine (default: its own choice)")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    group.add_argument("--no-memory", action="store_true", help="leave peak memory out, which takes a process a row")
    group.add_argument("--json", metavar="FILE", help="write everything as JSON")
    group.add_argument("--plot", metavar="FILE", help="draw a PNG")


def _bench(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from roadseg.benching.bench import run_bench
    from roadseg.benching.combinations import combine
    from roadseg.benching.report import report_json, report_text
    from roadseg.benching.results import Settings
    from roadseg.image_size import parse_size

    _check_outputs(args)
    if args.plot:
        from roadseg.benching.figure import report_png  # tells before the measuring if matplotlib is missing
    sizes = [parse_size(size, "--sizes") for size in args.sizes]
    combinations = combine(args.models, args.engines, args.precisions, sizes, args.batches, args.device)
    settings = Settings(repeats=args.repeats, threads=args.threads, memory=not args.no_memory)
    with tqdm(disable=None, unit="step") as bar:

        def tell(line: str) -> None:
            bar.set_postfix_str(line)
            bar.update()

        report = run_bench(combinations, settings, tell)
    print(report_text(report))
    ran = any(row.unavailable is None for row in report.rows)
    if args.json:
        _write(args.json, report_json(report).encode())
    if args.plot and ran:
        _write(args.plot, report_png(report))
    return 0 if ran else 1


def _write(path: str, data: bytes) -> None:
    from roadseg.inference.result import write_whole

    write_whole(Path(path), data)
    print(f"wrote {path}")


def _check_outputs(args: argparse.Namespace) -> None:
    """Refuse, before anything is measured, what cannot be written afterwards."""
    for option, ending in (("json", ".json"), ("plot", ".png")):
        given = getattr(args, option)
        if given is None:
            continue
        path = Path(given)
        folder = path.absolute().parent
        if path.suffix != ending or path.is_dir():
            raise ConfigError(f"--{option} is '{given}'; use the name of a file that ends in {ending}")
        if not folder.is_dir():
            raise ConfigError(f"--{option} is '{given}'; there is no folder {path.parent}: make it first")
        if not os.access(folder, os.W_OK):
            raise ConfigError(f"--{option} is '{given}'; {folder} cannot be written to: choose another folder")
