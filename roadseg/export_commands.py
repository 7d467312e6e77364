"""`roadseg export`: a model file becomes a folder that one runtime runs, without torch."""

import argparse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from roadseg.arguments import whole_from_1
from roadseg.errors import ConfigError, plural
from roadseg.inference.choices import ARTEFACT_FORMATS, PRECISIONS

if TYPE_CHECKING:
    from roadseg.inference.export.verify import Verification
    from roadseg.inference.package import ModelFile

FRAMES, SCENES = 8, 8
INT8_FRAMES, INT8_SCENES = 128, 32
"""Of int8, half of them: the other half are what layers are chosen by. All are in memory at once."""

CALIBRATION_IMAGES = 128
"""At most so many are used, spread evenly over the folder: all are in memory at once."""

Add = Callable[..., argparse.ArgumentParser]


def add_export_command(add: Add) -> None:
    """Add the command.

    Args:
        add: of name, summary, example and function, as in `roadseg.cli`.
    """
    parser = add(
        "export",
        "turn a model file into a folder for one runtime, checked against torch",
        "roadseg export roadseg-nano --format onnx -o roadseg-nano-onnx\n"
        "  roadseg export roadseg-nano --format openvino --precision int8 --calibration drives/ -o roadseg-nano-int8",
        _export,
    )
    parser.add_argument("model", metavar="MODEL", help="model file (.safetensors), or the name of a bundled model")
    parser.add_argument(
        "--format",
        required=True,
        choices=ARTEFACT_FORMATS,
        help="what shall run it: ONNX Runtime, OpenVINO (the quickest on CPUs), TensorRT, or torch alone",
    )
    parser.add_argument(
        "--precision",
        default="auto",
        choices=PRECISIONS,
        help="what it computes in; onnx and tensorrt: f32, f16; openvino: f32, bf16, f16, int8; torch: f32, bf16 "
        "(default: auto, which is f32)",
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="DIR", help="folder to make; an export in it is replaced"
    )
    parser.add_argument(
        "--size", metavar="HxW", help="take images of this height and width in px only (default: of every size)"
    )
    _add_checking(parser)
    _add_int8(parser)


def _add_checking(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what it is checked on, before it is written")
    group.add_argument(
        "--frames",
        type=whole_from_1,
        metavar="N",
        help="labelled frames to compare on, at most: of CamVid where it lies in the data root, else synthetic scenes "
        f"(default: {FRAMES}; int8: all, up to {INT8_FRAMES}, or {INT8_SCENES} scenes)",
    )
    group.add_argument(
        "--allow-mismatch", action="store_true", help="keep the folder even if its masks differ from the model file's"
    )


def _add_int8(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "int8 alone", "It is made with images like those that it will segment, and judged on others. Give one of:"
    )
    group.add_argument("--calibration", metavar="DIR", help="a folder of typical images, without labels")
    group.add_argument(
        "-c",
        "--config",
        metavar="DATA",
        help="labelled data: a training configuration, or its data section. int8 is made with its training frames; "
        "every second validation frame tells which layers must stay in float32, the others judge the result",
    )
    group.add_argument(
        "--calibration-frames",
        type=whole_from_1,
        metavar="N",
        help=f"images to make it with, spread evenly over all (default: {CALIBRATION_IMAGES})",
    )


def _export(args: argparse.Namespace) -> int:
    from roadseg.image_size import parse_size
    from roadseg.inference.bundled import model_path
    from roadseg.inference.export.staging import check_output
    from roadseg.inference.export.write import check_target, export_model
    from roadseg.inference.package import read_model_file

    static_size = parse_size(args.size) if args.size else None
    check_target(args.format, args.precision, static_size)
    check_output(args.output)
    _check_int8(args)
    model = read_model_file(model_path(args.model))

    def show(found: "Verification") -> None:
        print(found.to_text())

    artefact = export_model(
        model,
        args.format,
        args.precision,
        args.output,
        static_size=static_size,
        allow_mismatch=args.allow_mismatch,
        report=show,
        **_frames(args, model),
    )
    if "int8" in artefact.facts.details:
        print(f"\n{int8_text(artefact.facts.details['int8'])}")
    size = sum(path.stat().st_size for path in artefact.path.iterdir())
    print(f"\nwrote {artefact.path} ({artefact.facts.format}, {artefact.facts.precision}, {size / 1e6:.1f} MB)")
    print(f"sha256 {artefact.digest}")
    return 0


def _check_int8(args: argparse.Namespace) -> None:
    given = {"--calibration": args.calibration, "-c": args.config, "--calibration-frames": args.calibration_frames}
    named = [name for name, value in given.items() if value is not None]
    if args.precision != "int8" and named:
        raise ConfigError(
            f"{named[0]} is for int8, and this export is in {'f32' if args.precision == 'auto' else args.precision}; "
            "leave it out, or add --precision int8"
        )
    if args.precision == "int8" and (args.calibration is None) == (args.config is None):
        raise ConfigError(
            "int8 is made with typical images; give either --calibration DIR or -c DATA"
            + (", not both" if args.calibration is not None else "")
        )


def _frames(args: argparse.Namespace, model: "ModelFile") -> dict[str, Any]:
    """What `export_model` is given to judge on, and to make int8 with."""
    from roadseg.calibration_frames import frames_at_hand, frames_from_data, frames_from_folder

    taxonomy = model.header.taxonomy
    if args.precision != "int8":
        return {"frames": frames_at_hand(taxonomy, args.frames or FRAMES, args.frames or SCENES)}
    count, scored = args.calibration_frames or CALIBRATION_IMAGES, args.frames or INT8_FRAMES
    if args.config is not None:
        calibration, frames = frames_from_data(args.config, taxonomy, count, scored)
    else:
        calibration, frames = frames_from_folder(args.calibration, taxonomy, count, scored, args.frames or INT8_SCENES)
    return {"calibration": calibration, "frames": frames}


def int8_text(found: Mapping[str, Any]) -> str:
    """Which layers of an int8 model stayed in float32, and why.

    Args:
        found: what `roadseg.inference.export.int8.quantise` tells.
    """
    layers, kept, chosen_on = found["layers"], found["kept"], found["chosen_on"]
    if chosen_on is None:
        return f"int8: {plural(layers, 'layer')}; none was looked for that should stay in float32"
    where = f"{plural(chosen_on['frames'], 'frame')} of {chosen_on['source']} that are not among those above"
    everywhere, with_kept = (
        _quality_text(chosen_on[name], chosen_on["float32"]) for name in ("int8_everywhere", "int8")
    )
    if not kept:
        return f"int8: all {layers} layers; by {where} none has to stay in float32: {everywhere}"
    lines = [
        f"int8: {len(kept)} of {plural(layers, 'layer')} stay in float32, by {where}:",
        f"  every layer in int8: {everywhere}",
        f"  with these in float32: {with_kept}",
    ]
    lines += [f"  {one['layer']}: makes {one['error_share']:.1%} of the logits' squared error" for one in kept]
    return "\n".join(lines)


def _quality_text(quality: Mapping[str, Any], float32: Mapping[str, Any]) -> str:
    changed = f"{quality['disagreement']:.2%} of the pixels change"
    scores, before = quality["scores"], float32["scores"]
    if scores is None or scores["miou"] is None:
        return changed
    return f"mIoU {scores['miou']:.4f}, in float32 {before['miou']:.4f}, and {changed}"
