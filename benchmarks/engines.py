"""Twins-SVT-S with the folded decoder on every engine, and its peers, in one run, interleaved.

    python -m benchmarks.engines -o benchmarks/results/engines.json

One 512x1024 image in uint8, 19 classes, random weights; every contender gives the uint8 mask of the image at its own
size. The peers are timm's Twins-SVT-S under the same decoder written the plain way (project, upsample, concatenate,
1x1), with our weights, so that masks can be compared; and two networks of segmentation-models-pytorch: SegFormer's
decoder on timm's Twins-SVT-S, and DeepLabV3+ on a ResNet-50. Peers in OpenVINO are converted from PyTorch by OpenVINO
itself, at one static size; timm's attention is written out for it, since fused attention over windows has five
dimensions, which exporters do not take. Medians of rounds, in each of which everything runs once, in an order that
changes; the chains of matrix products that are each engine's ceiling run among them. int8 of random weights is with
every layer quantised that can be: it says what int8 is worth in time at most, and its masks mean nothing.

In the same rounds runs the bundled model, trained: in torch, in OpenVINO, and in int8 as `roadseg export` made it on
real frames beforehand (`--int8 DIR`), some layers in float32; what that export found is copied into the JSON.

`--quick` only tries the script.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from benchmarks import trained
from benchmarks.peers import BACKBONE, CLASSES, DECODER, DEEPLAB, PLAIN, Mask, Run, in_openvino, in_torch, peers
from benchmarks.random_model import write_random_model
from roadseg.benching.bench import Guarded
from roadseg.benching.ceilings import CeilingKey, ceiling_gflops, make_chain, share_of_ceiling
from roadseg.benching.loading import export_for_times, reason_of
from roadseg.benching.machine import describe_machine, is_busy
from roadseg.benching.results import Settings
from roadseg.benching.timing import Spread, interleaved_times, summarise
from roadseg.benching.work import WANTED, network_cost, scenes
from roadseg.inference.bundled import DEFAULT_MODEL, model_path
from roadseg.inference.package import ModelFile, read_model_file
from roadseg.inference.predictor import load_predictor
from roadseg.inference.torch_engine import network_of

TIMM = f"{PLAIN}, torch eager f32"
INT8 = "roadseg, OpenVINO int8, every layer"
OURS = {
    # name: engine, precision
    "roadseg, torch eager f32": ("torch", "f32"),
    "roadseg, torch eager bf16": ("torch", "bf16"),
    "roadseg, ONNX Runtime f32": ("onnx", "f32"),
    "roadseg, OpenVINO f32": ("openvino", "f32"),
    "roadseg, OpenVINO bf16": ("openvino", "bf16"),
    INT8: ("openvino", "int8"),
}
COMPILED = "roadseg, torch.compile f32"

RATIOS = (
    # what, the slower one, the quicker one, floor, aim
    ("OpenVINO f32 against timm + plain decoder", TIMM, "roadseg, OpenVINO f32", 2.7, 3.2),
    ("OpenVINO f32 against DeepLabV3+ R50", f"{DEEPLAB}, OpenVINO f32", "roadseg, OpenVINO f32", 1.25, 2.0),
    ("OpenVINO bf16 against timm + plain decoder", TIMM, "roadseg, OpenVINO bf16", 4.3, 8.0),
    ("OpenVINO int8 against our own OpenVINO f32", "roadseg, OpenVINO f32", INT8, 1.7, 3.0),
)
SHARES = {
    # contender: share of its engine's ceiling that is aimed at
    "roadseg, OpenVINO f32": 0.85,
    "roadseg, OpenVINO bf16": 0.60,
    INT8: 0.40,
}
INT8_NOTE = (
    "random weights, every layer quantised that can be: what int8 is worth in time at most; its masks mean nothing"
)


def ours(model: ModelFile, engine: str, precision: str, images: np.ndarray, folder: Path) -> Run:
    """Our network in one of our engines."""
    source = model.path
    if engine != "torch":
        source = folder / f"{engine}-{precision}"
        # Random weights bear int8 worse than trained ones: the search for layers to keep would measure that.
        export_for_times(model, engine, precision, source, keep_layers=False)
    ready = load_predictor(source, engine=engine, precision=precision, device="cpu").engine
    return lambda: ready.run(images, WANTED)["mask"]


def compiled(model: ModelFile, images: np.ndarray) -> Run:
    """Our network under torch.compile."""
    network = network_of(model)

    class Whole(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return network(image.permute(0, 3, 1, 2)).argmax(1).to(torch.uint8)

    return in_torch(torch.compile(Whole()), images)


def contenders(
    model: ModelFile, images: np.ndarray, folder: Path, compile_too: bool
) -> Iterator[tuple[str, Callable[[], Run]]]:
    """Names, and what makes each ready."""
    for name, network in peers(model, fused=True).items():
        yield f"{name}, torch eager f32", lambda network=network: in_torch(network, images)
    for name, network in peers(model, fused=False).items():
        yield f"{name}, OpenVINO f32", lambda network=network: in_openvino(network, images)
    for name, (engine, precision) in OURS.items():
        yield name, lambda pair=(engine, precision): ours(model, *pair, images, folder)
    if compile_too:
        yield COMPILED, lambda: compiled(model, images)


def make_ready(makers: Iterable[tuple[str, Callable[[], Run]]]) -> tuple[dict[str, Guarded], dict[str, str]]:
    """What runs, by name, and why the others do not."""
    ready, reasons = {}, {}
    for name, make in makers:
        print(f"preparing {name}", file=sys.stderr, flush=True)
        try:
            run = Guarded(make())
        except Exception as error:  # converters raise what they like; all of it is a reason
            reasons[name] = reason_of(error)
            print(reasons[name], file=sys.stderr, flush=True)
            continue
        run()
        if run.failure is None:
            ready[name] = run
        else:
            reasons[name] = run.failure
    return ready, reasons


def chains(side: int, names: Mapping[str, object]) -> dict[CeilingKey, Guarded]:
    """The chain of matrix products of each of our engines that runs."""
    made = {}
    for engine, precision in dict.fromkeys(pair for name, pair in (OURS | trained.TRAINED).items() if name in names):
        key = CeilingKey(engine, precision, "cpu")
        try:
            made[key] = Guarded(make_chain(key, side))
        except Exception as error:  # runtimes raise what they like; such a ceiling is missing
            print(f"no ceiling of {engine} in {precision}: {reason_of(error)}", file=sys.stderr)
    return made


def measure(
    size: tuple[int, int], repeats: int, side: int, compile_too: bool, int8: Path | None = None
) -> dict[str, Any]:
    """Everything, as it is written to JSON."""
    machine = describe_machine()
    images = scenes(size, 1)
    bundled = read_model_file(model_path(DEFAULT_MODEL))
    artefact = None if int8 is None else trained.read_int8(int8, bundled)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        write_random_model(path, BACKBONE, DECODER, CLASSES)
        model = read_model_file(path)
        makers = contenders(model, images, Path(folder), compile_too)
        of_bundled = trained.trained_contenders(bundled, artefact, images, Path(folder))
        runs, reasons = make_ready(chain(makers, of_bundled))
        masks = {name: np.array(run()) for name, run in runs.items()}
        products = chains(side, runs)
        times = interleaved_times(
            [*runs.values(), *products.values()], repeats, warm_ups=2, shuffle_seed=0, pause_s=0.02
        )
    taken = dict(zip([*runs, *products], map(summarise, times), strict=True))
    spreads = {name: taken[name] for name, run in runs.items() if run.failure is None}
    reasons |= {name: run.failure for name, run in runs.items() if run.failure is not None}
    macs = {ours: network_cost(header, size)[1] for ours, header in ((True, model.header), (False, bundled.header))}
    ceilings = {key: ceiling_gflops(side, taken[key].median_s) for key, run in products.items() if run.failure is None}
    return {
        "machine": machine,
        "busy": is_busy(machine),
        "versions": {"timm": timm.__version__, "segmentation_models_pytorch": smp.__version__},
        "network": {"backbone": BACKBONE, "decoder": DECODER, "num_classes": CLASSES, "macs": macs[True]},
        "trained": {
            "model": DEFAULT_MODEL,
            "digest": bundled.digest,
            "macs": macs[False],
            "int8": None if artefact is None else trained.int8_facts(artefact),
        },
        "size": list(size),
        "matmul_side": side,
        "rows": [
            row(name, spread, masks, macs[name not in trained.TRAINED], ceilings) for name, spread in spreads.items()
        ]
        + [{"name": name, "unavailable": reason} for name, reason in reasons.items()],
        "checks": checks(spreads),
    }


def row(
    name: str,
    spread: Spread,
    masks: Mapping[str, Mask],
    macs: int,
    ceilings: Mapping[CeilingKey, float],
) -> dict[str, Any]:
    """One contender. Networks with our random weights are compared with timm's, the trained one with torch's."""
    runner = (OURS | trained.TRAINED).get(name)
    ceiling = ceilings.get(CeilingKey(*runner, "cpu")) if runner else None
    with_whom = trained.TORCH if name in trained.TRAINED else TIMM
    comparable = name.startswith(("roadseg", "timm")) and with_whom in masks
    return {
        "name": name,
        "weights": "trained" if name in trained.TRAINED else "random",
        "note": INT8_NOTE if name == INT8 else None,
        "seconds": asdict(spread),
        "agreement": float(np.mean(masks[name] == masks[with_whom])) if comparable else None,
        "agreement_with": with_whom if comparable else None,
        "ceiling_gflops": ceiling,
        "ceiling_share": share_of_ceiling(macs, 1, spread.median_s, ceiling) if ceiling else None,
        "ceiling_share_aimed_at": SHARES.get(name),
    }


def checks(spreads: Mapping[str, Spread]) -> list[dict[str, Any]]:
    """Ratios of medians beside their floors; None where one of the two did not run."""
    found = []
    for what, slower, quicker, floor, aim in RATIOS:
        both = slower in spreads and quicker in spreads
        ratio = spreads[slower].median_s / spreads[quicker].median_s if both else None
        passed = None if ratio is None else ratio >= floor
        found.append({"what": what, "ratio": ratio, "floor": floor, "aim": aim, "passed": passed})
    return found


def text(document: Mapping[str, Any]) -> str:
    """The findings for people."""
    lines = [f"{'':54} {'median ms':>10} {'quartiles':>16} {'x timm':>7} {'argmax as':>10} {'ceiling':>8}"]
    timed = [found for found in document["rows"] if "seconds" in found]
    base = next((found["seconds"]["median_s"] for found in timed if found["name"] == TIMM), None)
    for found in sorted(timed, key=lambda found: -found["seconds"]["median_s"]):
        seconds = found["seconds"]
        quartiles = f"{seconds['low_s'] * 1e3:.1f}..{seconds['high_s'] * 1e3:.1f}"
        ratio = f"{base / seconds['median_s']:.2f}" if base and found["weights"] == "random" else "-"
        agreement, share = found["agreement"], found["ceiling_share"]
        lines.append(
            f"{found['name']:54} {seconds['median_s'] * 1e3:10.1f} {quartiles:>16} {ratio:>7} "
            f"{'-' if agreement is None else f'{agreement:.4%}':>10} {'-' if share is None else f'{share:.0%}':>8}"
        )
    lines += [f"{found['name']:54} {found['unavailable']}" for found in document["rows"] if "unavailable" in found]
    lines += ["", f"argmax as: random weights as {TIMM}, trained ones as {trained.TORCH}"]
    lines += [f"{found['name']}: {found['note']}" for found in timed if found["note"]]
    lines += [_int8_line(document["trained"]), ""]
    for check in document["checks"]:
        ratio = "not measured" if check["ratio"] is None else f"{check['ratio']:.2f}x"
        verdict = {True: "reached", False: "MISSED", None: "-"}[check["passed"]]
        lines.append(f"{check['what']:54} {ratio:>12}  floor {check['floor']}x  aim {check['aim']}x  {verdict}")
    if document["busy"]:
        lines += ["", f"this machine was busy (load {document['machine']['load_1min']}): measure again"]
    return "\n".join(lines)


def _int8_line(of_bundled: Mapping[str, Any]) -> str:
    if of_bundled["int8"] is None:
        return f"{trained.INT8}: no artefact was given"
    found, kept = of_bundled["int8"]["verification"], len(of_bundled["int8"]["int8"]["kept"])
    before, after = found["scores_of_model"], found["scores"]
    scores = f"mIoU {before['miou']:.4f} before, {after['miou']:.4f} after" if before and after else "no labels"
    return f"{trained.INT8}: {kept} layers kept in float32; {scores}, {found['frames']} frames of {found['source']}"


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    parser.add_argument("--repeats", type=int, default=15, help="rounds (default: 15)")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out, which takes minutes")
    parser.add_argument("--int8", type=Path, metavar="DIR", help="the bundled model, exported in int8 for OpenVINO")
    parser.add_argument("--quick", action="store_true", help="a tiny image and few rounds, to try the script")
    args = parser.parse_args()
    if args.quick:
        document = measure((64, 128), 2, 64, compile_too=False, int8=args.int8)
    else:
        side = Settings().matmul_side
        document = measure((512, 1024), args.repeats, side, compile_too=not args.no_compile, int8=args.int8)
    print(text(document))
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
