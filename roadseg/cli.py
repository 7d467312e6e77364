"""Console scripts `roadseg` and `lightning`. Heavy imports wait until a command needs them: `--help` is quick."""

import argparse
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from typing import Any

import roadseg
from roadseg.bench_commands import add_bench_commands
from roadseg.data_commands import add_data_commands
from roadseg.errors import ConfigError, DivergenceError, RoadsegError, name_missing_extra
from roadseg.evaluation_commands import add_evaluation_commands
from roadseg.export_commands import add_export_command
from roadseg.inference.bundled import BUNDLED_MODELS, DEFAULT_MODEL
from roadseg.segment_commands import add_segment_command
from roadseg.signals import Terminated

_SERVICE = "roadseg_service"
"""Named by a string: the service imports roadseg, never the reverse."""

TRAINING_COMMANDS = {
    "fit": "train a model from a YAML file",
    "validate": "score a checkpoint on the validation split",
    "test": "score a checkpoint on the test split",
    "predict": "write the masks of a checkpoint for a list of images",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `roadseg`.

    Args:
        argv: the arguments, by default those of this process.

    Returns:
        Exit status: 0, 1 when something was refused or failed, 2 on wrong usage, 3 when a training diverged, 130 when
        interrupted, 143 when a command that handles SIGTERM got one.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in TRAINING_COMMANDS:
        return lightning_main(argv)

    def run() -> int:
        parsed = _parser().parse_args(arguments)
        return int(parsed.run(parsed))

    return _reporting_errors(" ".join(["roadseg", *arguments[:1]]), run)


def lightning_main(argv: Sequence[str] | None = None) -> int:
    """Run `lightning` (and `roadseg fit|validate|test|predict`); arguments and exit status as for `main`."""

    def run() -> int:
        import_module("roadseg.training").main(argv)
        return 0

    return _reporting_errors("training", run)


def _reporting_errors(what: str, run: Callable[[], int]) -> int:
    """Run a command; what roadseg refuses is one message, not a traceback."""
    try:
        with name_missing_extra(what):
            return run()
    except RoadsegError as error:
        print(f"error: {_without_worker_traceback(error)}", file=sys.stderr)
        return DivergenceError.exit_status if isinstance(error, DivergenceError) else 1
    except Terminated:
        print("terminated", file=sys.stderr)
        return 143  # what shells give for SIGTERM
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130  # what shells give for SIGINT


def _without_worker_traceback(error: RoadsegError) -> str:
    """The message alone; an error that crossed from a data-loader worker carries the worker's traceback as text."""
    message = str(error)
    marker = f"{type(error).__module__}.{type(error).__qualname__}: "
    return message.rpartition(marker)[2].strip() if "Original Traceback" in message else message


class _CommandParser(argparse.ArgumentParser):
    """The parser of a command, whose options may wait until they are needed; it tells of misspelt ones itself."""

    fill: Callable[[argparse.ArgumentParser], None] | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, after adding what waited."""
        if self.fill is not None:
            fill, self.fill = self.fill, None
            fill(self)
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:  # else the parser above would tell of it, with its own usage
            self.error(self._unknown(unknown))
        return parsed, unknown

    def _unknown(self, arguments: Sequence[str]) -> str:
        """What is said of arguments that are none; values of misspelt options are not repeated: one may be a key."""
        options = [argument.partition("=")[0] for argument in arguments if argument.startswith("-")]
        if not options:
            return f"unrecognised argument '{arguments[0]}'; {self.prog} --help lists what there is"
        near = get_close_matches(options[0], self._option_string_actions, 1)
        return f"there is no option {options[0]}; " + (
            f"did you mean {near[0]}?" if near else f"{self.prog} --help lists all"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="roadseg",
        description="Road segmentation for HD maps: drive images in, masks of road elements out.",
        epilog="Training commands take `--help` too, for example `roadseg fit --help`; `lightning` is the same as "
        "`roadseg` for them.",
    )
    parser.add_argument("--version", action="version", version=f"roadseg {roadseg.__version__}")
    parser_class: type[argparse.ArgumentParser] = _CommandParser
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=parser_class)
    for name, summary in TRAINING_COMMANDS.items():  # run before this parser sees them; listed for --help
        commands.add_parser(name, help=summary, add_help=False)
    _add_package(commands)
    add_segment_command(partial(_command, commands), _add_model_options)
    for add in (_add_models, _add_serve):
        add(commands)
    add_export_command(partial(_command, commands))
    add_evaluation_commands(partial(_command, commands))
    add_bench_commands(partial(_command, commands))
    _add_data(commands)
    return parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    summary: str,
    example: str,
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _add_data(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("data", help="get, audit, split, shard and pseudo-label data; see what it covers")
    below = parser.add_subparsers(dest="data_command", metavar="COMMAND", required=True)
    add_data_commands(partial(_command, below))


def _add_package(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _command(
        commands,
        "package",
        "turn a training checkpoint into a model file",
        "roadseg package runs/nano/version_0/checkpoints/best.ckpt -o model.safetensors",
        _package,
    )
    parser.add_argument("checkpoint", metavar="CKPT", help="checkpoint of `lightning fit`")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="model file to write (.safetensors)")
    parser.add_argument(
        "--short-side-px",
        type=int,
        metavar="N",
        help="resize images to this short side before the network, as short_side_px did in training (default: no)",
    )
    parser.add_argument(
        "--weights-licence", default="unspecified", metavar="TEXT", help="terms under which the weights may be used"
    )
    parser.add_argument("--half", action="store_true", help="store the weights as float16, in half the bytes")


def _add_models(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _command(
        commands,
        "models",
        "list the networks: parameters, multiply-accumulates (MACs), public weights",
        "roadseg models --backbone twins_svt_small resnet50 --decoder upernet --size 512x1024",
        _models,
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--backbone", nargs="+", default=[], metavar="NAME", help="only these (default: all)")
    which.add_argument("--layers", metavar="NAME", help="the parts of this backbone, one a line")
    parser.add_argument("--decoder", metavar="NAME", help="count whole segmenters with this decoder")
    parser.add_argument("--classes", type=int, metavar="N", help="classes of the segmenters (default: 19)")
    parser.add_argument(
        "--size", action="append", metavar="HxW", help="height and width in px; repeatable (default: 512x512, 512x1024)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, in whole numbers")


def _add_serve(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _command(
        commands,
        "serve",
        "serve a model over HTTP",
        "roadseg serve --port 8000",
        _serve,
    )
    assert isinstance(parser, _CommandParser)
    parser.fill = lambda parser: import_module(f"{_SERVICE}.options").add_options(parser)


def _add_model_options(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        help="model file (.safetensors), folder of an exported model (roadseg export), or a bundled model: "
        f"{', '.join(BUNDLED_MODELS)} (default: {DEFAULT_MODEL})",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument(
        "--precision",
        default="auto",
        help="auto, f32 or bf16; an exported model has its own (default: auto, which is f32)",
    )
    parser.add_argument(
        "--ignore-regions",
        metavar="FILE",
        help="YAML list of polygons that masks leave out, such as the car's own hood",
    )


def _package(args: argparse.Namespace) -> int:
    from roadseg.inference.package import read_model_file
    from roadseg.packaging import package_checkpoint, scale_advice

    digest = package_checkpoint(
        args.checkpoint,
        args.output,
        short_side_px=args.short_side_px,
        weights_licence=args.weights_licence,
        half=args.half,
    )
    print(f"wrote {args.output}\nsha256 {digest}")
    if advice := scale_advice(read_model_file(args.output).header):
        print(f"warning: {advice}", file=sys.stderr)
    return 0


def _models(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from roadseg.image_size import parse_size
    from roadseg.models import table

    if args.classes is not None and not args.decoder:
        raise ConfigError(f"--classes is {args.classes}, but backbones alone have no classes; give --decoder too")
    num_classes = table.DEFAULT_CLASSES if args.classes is None else args.classes
    sizes = list(dict.fromkeys(map(parse_size, args.size or []))) or table.DEFAULT_SIZES
    if args.layers:
        parts = table.count_parts(args.layers, sizes, args.decoder, num_classes)
        print(table.parts_json(parts) if args.json else table.parts_text(parts))
        return 0
    names = table.backbones_in_order(args.backbone)
    counts = table.count_models(names, sizes, args.decoder, num_classes)
    models = list(tqdm(counts, total=len(names), unit="model", disable=None))
    if args.json:
        print(table.models_json(models, sizes, args.decoder, num_classes if args.decoder else None))
    else:
        print(table.models_text(models, sizes))
    return 0


def _serve(args: argparse.Namespace) -> int:
    given = import_module(f"{_SERVICE}.options").values_of(args)
    import_module(f"{_SERVICE}.serve").main(**{"model": None, "host": None, "port": None, **given})
    return 0
