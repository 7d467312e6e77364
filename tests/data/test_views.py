"""Training samples and evaluation frames: seeds, flips, rare classes, mixing, reduced decoding, batches."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from roadseg.data.sampling import EpochSampler, SampleKey
from roadseg.data.transforms import Augmentation
from roadseg.data.views import EvaluationView, TrainView, collate
from roadseg.errors import ConfigError, CorruptImageError, DataError
from roadseg.jpeg_parts import read_image_part, read_reduced_image
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import RoadClass, Taxonomy

TAXONOMY = Taxonomy(
    "toys",
    1,
    (
        RoadClass("road", (0, 0, 0)),
        RoadClass("left_lane", (10, 0, 0), left_right="right_lane"),
        RoadClass("right_lane", (20, 0, 0), left_right="left_lane"),
        RoadClass("pole", (30, 0, 0)),
    ),
)
SETS = LabelSets.collect(TAXONOMY, [(0, 1), (0, 3)])
LEFT, RIGHT, POLE = 1, 2, 3
ROAD_OR_LEFT, ROAD_OR_RIGHT = SETS.id_of((0, 1)), SETS.id_of((0, 2))
STILL = {"scale_range": (1.0, 1.0), "photometric": 0.0}


class ToyFrames:
    """Frames in memory that note how they are read."""

    def __init__(self, masks: Sequence[np.ndarray], scale: float = 1.0, can_reduce: bool = True) -> None:
        self.masks, self.factor, self.can_reduce = list(masks), scale, can_reduce
        self.label_sets = SETS
        self.reductions: list[int] = []

    def __len__(self) -> int:  # noqa: D105
        return len(self.masks)

    def name(self, index: int) -> str:
        return f"frame_{index}"

    def image_size(self, index: int) -> tuple[int, int]:
        return self.masks[index].shape

    def scale(self, index: int, size: tuple[int, int]) -> float:
        return self.factor

    def read_image(self, index: int, reduction: int = 1) -> np.ndarray:
        self.reductions.append(reduction)
        step = reduction if self.can_reduce else 1
        mask = self.masks[index]
        return np.stack([mask * 30, mask * 0 + 60, mask * 0 + index], -1)[::step, ::step].astype(np.uint8)

    def read_mask(self, index: int, size: tuple[int, int]) -> np.ndarray:
        return self.masks[index]


def halves(left: int, right: int, shape: tuple[int, int] = (64, 96)) -> np.ndarray:
    mask = np.full(shape, left, np.uint8)
    mask[:, shape[1] // 2 :] = right
    return mask


def view(masks: Sequence[np.ndarray], **options) -> TrainView:
    return TrainView(ToyFrames(masks), Augmentation(**{"crop_size": (64, 96), **STILL, **options}), seed=0)


@pytest.mark.parametrize(
    ("left", "right", "flipped_left", "flipped_right"),
    [
        (LEFT, RIGHT, LEFT, RIGHT),
        (LEFT, POLE, POLE, RIGHT),
        (ROAD_OR_LEFT, 255, 255, ROAD_OR_RIGHT),
        (SETS.id_of((0, 3)), ROAD_OR_RIGHT, ROAD_OR_LEFT, SETS.id_of((0, 3))),
    ],
)
def test_half_of_the_samples_are_mirrored_with_partners_swapped(left, right, flipped_left, flipped_right):
    samples = [view([halves(left, right)])[SampleKey(0, seed)] for seed in range(200)]
    mirrored = 0
    for sample in samples:
        image, mask = sample["image"], sample["mask"]
        assert image.shape == (3, 64, 96) and image.dtype == torch.uint8 and sample["name"] == "frame_0"
        assert mask.shape == (64, 96) and mask.dtype == torch.uint8
        is_mirrored = bool(image[0, 0, 0] == (right * 30) % 256)
        expected = (flipped_left, flipped_right) if is_mirrored else (left, right)
        assert (mask[:, :48] == expected[0]).all() and (mask[:, 48:] == expected[1]).all()
        mirrored += is_mirrored
    assert 75 < mirrored < 125


def test_a_sample_follows_from_its_seed_alone():
    rng = np.random.default_rng(0)
    masks = [rng.integers(0, 5, (90, 130), dtype=np.uint8) for _ in range(3)]
    options = {"scale_range": (0.5, 2.0), "photometric": 1.0, "mix": "classmix"}
    first, second = view(masks, **options), view(masks, **options)
    second[SampleKey(2, 99)]  # what came before does not matter
    for seed in range(8):
        a, b, c = first[SampleKey(1, seed)], second[SampleKey(1, seed)], first[SampleKey(1, seed + 100)]
        assert torch.equal(a["image"], b["image"]) and torch.equal(a["mask"], b["mask"])
        assert not torch.equal(a["image"], c["image"])


def test_batches_do_not_depend_on_the_number_of_workers():
    rng = np.random.default_rng(0)
    masks = [rng.integers(0, 5, (40 + 5 * i, 130), dtype=np.uint8) for i in range(6)]
    made = view(masks, scale_range=(0.5, 2.0), photometric=1.0, mix="classmix")
    found = []
    for workers in (0, 1, 2):
        loader = DataLoader(
            made, batch_size=3, sampler=EpochSampler(6, seed=4), num_workers=workers, collate_fn=collate
        )
        found.append(list(loader))
    for other in found[1:]:
        for ours, theirs in zip(found[0], other, strict=True):
            assert type(theirs) is dict and ours["name"] == theirs["name"]
            for key, dtype in {"image": torch.uint8, "mask": torch.uint8}.items():
                assert ours[key].dtype == theirs[key].dtype == dtype and torch.equal(ours[key], theirs[key])


@pytest.mark.parametrize(("probability", "low", "high"), [(0.0, 0.0, 0.15), (0.5, 0.46, 0.62), (1.0, 1.0, 1.0)])
def test_a_rare_class_is_in_as_many_samples_as_asked_for(probability, low, high):
    mask = np.zeros((400, 600), np.uint8)
    mask[200:203, 300:303] = POLE
    made = view([mask], rare_classes=("pole",), rare_probability=probability)
    share = np.mean([bool((made[SampleKey(0, seed)]["mask"] == POLE).any()) for seed in range(400)])
    assert low <= share <= high


def test_a_merged_set_with_a_rare_class_is_not_that_class():
    mask = np.zeros((400, 600), np.uint8)
    mask[10, 10] = SETS.id_of((0, 3))
    with pytest.warns(UserWarning, match=r"data.rare_classes: pole will not be found under .*road\+pole"):
        made = view([mask], rare_classes=("pole",), rare_probability=1.0)
    assert np.mean([bool((made[SampleKey(0, seed)]["mask"] > 3).any()) for seed in range(100)]) < 0.3


def test_a_merged_set_of_rare_classes_alone_is_found():
    mask = np.full((400, 600), POLE, np.uint8)
    mask[200:203, 300:303] = ROAD_OR_LEFT
    mask[:, :60] = SETS.id_of((0, 3))
    made = view([mask], rare_classes=("left_lane", "road"), rare_probability=1.0)
    for seed in range(50):
        assert set(made[SampleKey(0, seed)]["mask"].unique().tolist()) & {ROAD_OR_LEFT, ROAD_OR_RIGHT}


def test_copy_paste_takes_merged_sets_of_its_classes_alone():
    other = halves(SETS.id_of((0, 3)), POLE)
    other[:, 5] = ROAD_OR_LEFT
    made = view([halves(POLE, POLE), other], mix="copy_paste", mix_probability=1.0, mix_classes=("road", "left_lane"))
    found = {tuple(made[SampleKey(0, seed)]["mask"].unique().tolist()) for seed in range(60)}
    assert {value for values in found for value in values} == {POLE, ROAD_OR_LEFT}  # mirrored, it is another label


def test_classmix_pastes_whole_classes_of_another_frame_with_their_pixels():
    masks = [halves(0, 0), halves(LEFT, POLE)]
    made = view(masks, mix="classmix", mix_probability=1.0)
    seen = set()
    for seed in range(60):
        sample = made[SampleKey(0, seed)]
        pasted = sample["image"][2] == 1  # the other frame's number is in the blue channel
        seen.add(int(pasted.sum()))
        assert torch.equal(sample["image"][0] == 0, sample["mask"] == 0) and (sample["mask"][~pasted] == 0).all()
    assert seen == {0, 64 * 48}  # the frame itself may be drawn as its own second
    assert (view(masks, mix="classmix", mix_probability=0.0)[SampleKey(0, 1)]["mask"] == 0).all()


def test_copy_paste_takes_nothing_but_objects_of_its_classes():
    other = halves(LEFT, 255)
    other[:, 20] = POLE
    made = view([halves(0, 0), other], mix="copy_paste", mix_probability=1.0, mix_classes=("pole",))
    masks = [made[SampleKey(0, seed)]["mask"] for seed in range(100)]
    counts = {int((mask == POLE).sum()) for mask in masks}
    assert counts == {0, 64} and all(set(mask.unique().tolist()) <= {0, POLE} for mask in masks)


@pytest.mark.parametrize("can_reduce", [True, False])
@pytest.mark.parametrize(("scale", "reductions"), [(0.124, {8}), (0.3, {2}), (0.5, {2}), (0.51, {1}), (1.5, {1})])
def test_images_are_decoded_at_a_reduced_size_only_when_nothing_is_lost(scale, reductions, can_reduce):
    frames = ToyFrames(
        [np.kron(np.arange(9).reshape(3, 3) % 4, np.ones((180, 200))).astype(np.uint8)], scale, can_reduce
    )
    made = TrainView(frames, Augmentation(crop_size=(32, 32), **STILL), seed=0)
    for seed in range(10):
        sample = made[SampleKey(0, seed)]
        off = (sample["image"][0] - 30 * sample["mask"]).abs() > 2
        # Only borders of classes are interpolated; mirrored samples swap two ids, whose colours stay.
        swapped = (sample["mask"] == LEFT) | (sample["mask"] == RIGHT)
        assert (off & ~swapped & (sample["mask"] != 255)).float().mean() < 0.25
    assert set(frames.reductions) == reductions


def test_an_image_of_another_size_than_its_header_says_is_named():
    frames = ToyFrames([halves(0, 1)])
    frames.image_size = lambda index: (70, 96)
    with pytest.raises(
        DataError, match=r"frame frame_0 is 96x70 \(width x height\), says its header, but was read as 96x64"
    ):
        TrainView(frames, Augmentation(crop_size=(64, 96)), 0)[0]


def test_a_part_is_read_where_frames_can_read_parts():
    class PartlyRead(ToyFrames):
        def read_image_part(self, index, box, reduction=1):
            top, left, bottom, right = box
            return super().read_image(index, 1)[top:bottom:reduction, left:right:reduction]

        def read_mask_part(self, index, size, box):
            top, left, bottom, right = box
            return super().read_mask(index, size)[top:bottom, left:right]

        def read_image(self, index, reduction=1):
            raise AssertionError("the whole image was read")

        def read_mask(self, index, size):
            raise AssertionError("the whole mask was read")

    masks = [np.random.default_rng(0).integers(0, 4, (300, 400), np.uint8)]
    for scale in (1.0, 0.25):
        options = Augmentation(crop_size=(64, 96), **STILL)
        parts, wholes = (TrainView(kind(masks, scale), options, 0) for kind in (PartlyRead, ToyFrames))
        for seed in range(5):
            for key in ("image", "mask"):
                assert torch.equal(parts[SampleKey(0, seed)][key], wholes[SampleKey(0, seed)][key])


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (3, 500), (2160, 3840)])
@pytest.mark.parametrize("scale", [0.04, 1.0, 2.0])
def test_frames_of_any_size_become_samples_with_ignored_padding(size, scale):
    made = TrainView(ToyFrames([np.full(size, POLE, np.uint8)], scale), Augmentation(crop_size=(64, 96)), seed=0)
    sample = made[SampleKey(0, 1)]
    assert sample["image"].shape == (3, 64, 96) and set(sample["mask"].unique().tolist()) <= {POLE, 255}
    assert (sample["mask"] == POLE).any()


@pytest.mark.parametrize("field", ["rare_classes", "mix_classes"])
def test_unknown_classes_are_refused_with_those_there_are(field):
    with pytest.raises(
        ConfigError,
        match=rf"data.{field}: no class 'lamp' in taxonomy 'toys'; it has road, left_lane, right_lane, pole",
    ):
        view([halves(0, 1)], **{field: ("pole", "lamp")})


@pytest.mark.parametrize(("scale", "size"), [(1.0, (64, 96)), (0.5, (32, 48)), (0.7, (45, 67)), (1.5, (96, 144))])
def test_evaluation_resizes_the_image_and_keeps_the_mask(scale, size):
    mask = halves(LEFT, ROAD_OR_LEFT)
    sample = EvaluationView(ToyFrames([mask], scale))[0]
    assert sample["image"].shape == (3, *size) and sample["mask"].shape == (64, 96)
    assert np.array_equal(sample["mask"].numpy(), mask) and sample["mask"].dtype == torch.uint8
    assert (sample["image"][0, :, :20] == 30 * LEFT).all() and (sample["image"][1] == 60).all()


def test_frames_of_unequal_sizes_are_not_stacked():
    frames = EvaluationView(ToyFrames([halves(0, 1), halves(0, 1, (32, 96))]))
    with pytest.raises(DataError, match="do not fit into one batch; set data.eval_batch_size to 1"):
        collate([frames[0], frames[1]])


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_part_of_a_file_has_the_pixels_of_the_whole(tmp_path, subsampling, progressive):
    rng = np.random.default_rng(subsampling)
    image = Image.fromarray(rng.integers(0, 256, (75, 100, 3), np.uint8)).resize((406, 300))
    path = tmp_path / "frame.jpg"
    image.save(path, quality=90, subsampling=subsampling, progressive=progressive)
    for reduction in (1, 2, 4, 8):
        whole = read_reduced_image(path, reduction, orientation="stored").pixels
        for _ in range(6):
            top, bottom = sorted(rng.choice(300 // reduction + 1, 2, replace=False).tolist())
            left, right = sorted(rng.choice(406 // reduction + 1, 2, replace=False).tolist())
            part = read_image_part(path, tuple(side * reduction for side in (top, left, bottom, right)), reduction)
            assert np.array_equal(part.pixels, whole[top:bottom, left:right]) and part.format == "JPEG"


def test_damage_in_a_part_is_found_and_a_part_outside_is_refused(tmp_path):
    path = tmp_path / "frame.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert read_image_part(path, (0, 0, 64, 400)).pixels.shape == (64, 400, 3)
    with pytest.raises(CorruptImageError, match=r"frame.jpg is truncated or damaged"):
        read_image_part(path, (200, 0, 280, 400))
    with pytest.raises(DataError, match=r"frame.jpg is 400x\d+ \(width x height\), and has no part \[0, 0, 64, 401\]"):
        read_image_part(path, (0, 0, 64, 401))


def test_a_part_of_a_png_is_whole_at_any_reduction(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "frame.png")
    part = read_image_part(tmp_path / "frame.png", (8, 16, 24, 48), 8)
    assert np.array_equal(part.pixels, pixels[8:24, 16:48])
