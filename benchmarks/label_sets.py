"""What label sets cost a training step, against torch's cross-entropy on masks of single classes.

    python -m benchmarks.label_sets --output benchmarks/results/label_sets.json

The masks are those of procedural scenes; for the sets, their labels are read as CamVid's eleven classes say them
(road or lane marking, building or wall, sign or light), and as Cityscapes says them in hdmap-lanes, where "road" is
any of ten classes. The network, optimizer and precision are those of configs/nano.yaml.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.measuring import interleaved_medians
from roadseg import build_model, load_taxonomy
from roadseg.benching.machine import describe_machine
from roadseg.data.class_table import ClassTable, load_class_table
from roadseg.data.synthetic import render_scene
from roadseg.label_sets import LabelSets
from roadseg.losses import LabelSetCrossEntropy

BATCH, SIZE = 8, (320, 416)
CASES = {
    # name: taxonomy, dataset, and what the dataset calls the scenes' classes, in their order
    "camvid in hdmap-camvid": (
        "hdmap-camvid",
        "camvid",
        "road,road,pavement,fence,pole,pole,sign_symbol,sign_symbol,building,tree,tree,sky,car".split(","),
    ),
    "cityscapes in hdmap-lanes": (
        "hdmap-lanes",
        "cityscapes",
        "road,road,sidewalk,fence,pole,pole,traffic sign,traffic light,building,vegetation,terrain,sky,car".split(","),
    ),
}


def main() -> None:
    """Measure both cases, and write the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/label_sets.json"))
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    torch.manual_seed(0)
    scenes = [render_scene(seed, SIZE) for seed in range(BATCH)]
    image = torch.from_numpy(np.stack([s.image for s in scenes])).permute(0, 3, 1, 2)
    scene_mask = np.stack([s.mask for s in scenes])
    result: dict = {"machine": describe_machine(), "batch": [BATCH, *SIZE], "precision": "bf16-mixed", "cases": {}}
    for name in CASES:
        result["cases"][name] = measure(name, image, scene_mask, args.repeats)
        print(name, result["cases"][name])
    args.output.write_text(json.dumps(result, indent=2) + "\n")


def measure(case: str, image: torch.Tensor, scene_mask: np.ndarray, repeats: int) -> dict:
    """Median seconds of a training step with both losses, their ratio, and what the sets are."""
    taxonomy_name, dataset, words = CASES[case]
    taxonomy, table = load_taxonomy(taxonomy_name), load_class_table(dataset)
    label_sets = LabelSets.collect(taxonomy, table.sets_in(taxonomy).values())
    merged, single = masks(scene_mask, table, words, label_sets)
    network = build_model("twins_svt_nano", "linear_concat", len(taxonomy), width=128).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    loss = LabelSetCrossEntropy(label_sets)

    def step(criterion: Callable[[torch.Tensor], torch.Tensor]) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            value = criterion(network(image))
        value.backward()
        optimizer.step()

    def plain(logits: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits.float(), single, ignore_index=255)

    runs = {"plain": lambda: step(plain), "label sets": lambda: step(lambda logits: loss(logits, merged))}
    seconds = interleaved_medians(runs, repeats)
    return {
        "classes": len(taxonomy),
        "largest set in the masks": max(len(label_sets.members[i]) for i in merged.unique().tolist() if i != 255),
        "pixels with merged labels": float((merged >= len(taxonomy)).logical_and(merged != 255).double().mean()),
        "step_s": seconds,
        "ratio": seconds["label sets"] / seconds["plain"],
    }


def masks(
    scene_mask: np.ndarray, table: ClassTable, words: Sequence[str], label_sets: LabelSets
) -> tuple[torch.Tensor, torch.Tensor]:
    """The scenes' masks in the dataset's labels, as set ids, and in single classes."""
    sets = table.sets_in(label_sets.taxonomy)
    merged, single = np.full(256, 255, np.int64), np.full(256, 255, np.int64)
    for i, word in enumerate(words):
        members = sets[table.label(word).id]
        merged[i], single[i] = label_sets.id_of(members), min(members)
    return torch.from_numpy(merged[scene_mask]), torch.from_numpy(single[scene_mask])


if __name__ == "__main__":
    main()
