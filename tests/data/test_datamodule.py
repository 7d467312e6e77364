"""The data module: batches, workers, epochs, and refusals."""

import numpy as np
import pytest
import torch
from PIL import Image

from roadseg.data.datamodule import RoadDataModule
from roadseg.errors import ConfigError, DataError


def module(root, **options):
    defaults = {"root": str(root), "batch_size": 2, "crop_size": (32, 48), "num_workers": 0}
    return RoadDataModule("camvid", **{**defaults, **options})


def epoch(root, number: int, **options):
    data = module(root, **options)
    data.setup("fit")
    loader = data.train_dataloader()
    loader.sampler.set_epoch(number)
    return list(loader)


def same(a, b) -> bool:
    return all(x["name"] == y["name"] and torch.equal(x["image"], y["image"]) for x, y in zip(a, b, strict=True))


def test_batches_keep_their_contract(camvid_root):
    batch = epoch(camvid_root, 0)[0]
    assert batch["image"].shape == (2, 3, 32, 48) and batch["image"].dtype == torch.uint8
    assert batch["mask"].shape == (2, 32, 48) and batch["mask"].dtype == torch.uint8
    handed_over = module(camvid_root).on_after_batch_transfer(batch, 0)["mask"]
    assert handed_over.dtype == torch.int64 and torch.equal(handed_over, batch["mask"].long())
    assert len(batch["name"]) == 2 and all(isinstance(n, str) for n in batch["name"])
    assert set(batch["mask"].unique().tolist()) <= {*range(11), 255}


def test_evaluation_gives_whole_frames_unchanged(camvid_root):
    data = module(camvid_root)
    data.setup("validate")
    batches = list(data.val_dataloader())
    assert [b["name"] for b in batches] == [[f"frame_{i:03d}"] for i in range(5)]
    stored = np.asarray(Image.open(camvid_root / "camvid" / "val" / "frame_003.png"))
    assert np.array_equal(batches[3]["image"][0].permute(1, 2, 0).numpy(), stored)


def test_epochs_differ_and_an_epoch_repeats(camvid_root):
    first, second = epoch(camvid_root, 0, num_workers=2), epoch(camvid_root, 1, num_workers=2)
    assert same(first, epoch(camvid_root, 0, num_workers=2))
    assert not same(first, second)


def test_the_number_of_workers_changes_nothing(camvid_root):
    assert same(epoch(camvid_root, 3, num_workers=0), epoch(camvid_root, 3, num_workers=2))


def test_workers_that_persist_see_the_epoch_too(camvid_root):
    data = module(camvid_root, num_workers=2)
    data.setup("fit")
    loader = data.train_dataloader()
    seen = []
    for number in range(2):
        loader.sampler.set_epoch(number)
        seen.append(list(loader))
    assert same(seen[0], epoch(camvid_root, 0)) and same(seen[1], epoch(camvid_root, 1))


def test_two_augmentations_of_one_frame_differ(camvid_root):
    def of_frame(number):
        return {n: i for b in epoch(camvid_root, number) for n, i in zip(b["name"], b["image"], strict=True)}

    first, second = of_frame(0), of_frame(1)
    assert all(not torch.equal(first[name], second[name]) for name in first)


def test_a_broken_label_stops_the_run_before_it_begins(camvid_root):
    path = camvid_root / "camvid" / "valannot" / "frame_002.png"
    Image.new("L", (96, 64), 77).save(path)
    with pytest.raises(DataError, match=rf"{path} holds 1 value outside the label set: 77 \(6144 pixels\)"):
        module(camvid_root).setup("fit")


def test_mixed_sizes_in_one_evaluation_batch_are_explained(camvid_root):
    for folder, mode in (("val", "RGB"), ("valannot", "L")):
        Image.new(mode, (48, 32)).save(camvid_root / "camvid" / folder / "frame_001.png")
    data = module(camvid_root, eval_batch_size=2)
    data.setup("validate")
    with pytest.raises(
        DataError, match=r"sizes \[\(32, 48\), \(64, 96\)\] do not fit into one batch; set data.eval_batch_size to 1"
    ):
        list(data.val_dataloader())
    data = module(camvid_root)
    data.setup("validate")
    assert [tuple(b["mask"].shape[1:]) for b in data.val_dataloader()][:2] == [(64, 96), (32, 48)]


def test_predict_reads_images_without_masks(camvid_root):
    folder = camvid_root / "camvid" / "test"
    batches = list(module(camvid_root, predict_images=[str(folder)]).predict_dataloader())
    assert [b["name"] for b in batches] == [[str(folder / f"frame_{i:03d}.png")] for i in range(3)]
    assert all("mask" not in b for b in batches)


def test_predict_without_images_says_what_to_set(camvid_root):
    with pytest.raises(ConfigError, match="set data.predict_images to a list of image files and folders"):
        module(camvid_root).predict_dataloader()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "data.batch_size is 0; use at least 1"),
        ({"num_workers": -1}, "data.num_workers is -1; use at least 0"),
        ({"dataset": "cityscape"}, "no dataset 'cityscape'; known: ade20k, .* camvid, "),
    ],
)
def test_wrong_settings_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        RoadDataModule(**options)


def test_a_batch_larger_than_the_split_is_refused(camvid_root):
    with pytest.raises(ConfigError, match="batch_size is 9, but a process has only 8 training frames; lower"):
        epoch(camvid_root, 0, batch_size=9)


def test_an_option_the_dataset_does_not_have_is_named():
    with pytest.raises(ConfigError, match=r"dataset 'camvid' has no option 'frames' \(data.options\); it has none"):
        RoadDataModule("camvid", options={"frames": 3})
    with pytest.raises(
        ConfigError, match=r"'synthetic' has no option 'frames' .* it has train_frames, val_frames, size"
    ):
        RoadDataModule("synthetic", options={"frames": 3})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": [192]}, r"data.options.size is \[192\]; use \[height, width\] in px"),
        ({"size": "big"}, "data.options.size is 'big'"),
        ({"train_frames": "many"}, "data.options.train_frames is 'many'; use a whole number of at least 1"),
        ({"seed": -1}, "data.options.seed is -1; use a whole number of at least 0"),
    ],
)
def test_synthetic_options_that_cannot_work_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        RoadDataModule("synthetic", options=options).setup("fit")


def test_samples_of_two_workers_and_two_epochs_all_differ_even_from_equal_frames(camvid_root):
    """With equal frames only the augmentation can tell samples apart, which a copied random stream would not."""
    for folder in ("train", "trainannot"):
        paths = sorted((camvid_root / "camvid" / folder).iterdir())
        for path in paths[1:]:
            path.write_bytes(paths[0].read_bytes())
    samples = [s.numpy().tobytes() for e in range(2) for b in epoch(camvid_root, e, num_workers=2) for s in b["image"]]
    assert len(samples) == 16 and len(set(samples)) == 16
