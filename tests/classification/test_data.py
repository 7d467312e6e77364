"""Which images are read, how they are cut and disturbed, and how processes share a batch."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from roadseg.classification.datamodule import ImageFolderDataModule, WholeStepSampler, process_batch_size
from roadseg.classification.transforms import NoiseErasing, evaluation_transform, seeded
from roadseg.errors import ConfigError


def data_module(root, **options) -> ImageFolderDataModule:
    defaults = {"image_size": 64, "total_batch_size": 12, "eval_batch_size": 4, "num_workers": 0}
    module = ImageFolderDataModule("colours", str(root), **{**defaults, **options})
    module.setup("fit")
    return module


def epochs(module, count=2) -> list[list[dict]]:
    loader, found = module.train_dataloader(), []
    for epoch in range(count):
        loader.sampler.set_epoch(epoch)
        found.append(list(loader))
    return found


def test_batches_are_bytes_with_labels_and_paths(pictures):
    module = data_module(pictures)
    (batch, *others) = list(module.train_dataloader())
    assert batch["image"].shape == (12, 3, 64, 64) and batch["image"].dtype == torch.uint8 and len(others) == 2
    assert batch["label"].dtype == torch.int64 and module.class_names == ["brick", "grass", "water"]
    for label, path in zip(batch["label"], batch["name"], strict=True):
        assert f"/train/{module.class_names[label]}/" in path
    sizes = [len(batch["label"]) for batch in module.val_dataloader()]
    assert sizes == [4, 4, 4, 3], "the last batch is not left out"


def test_augmentation_differs_between_epochs_and_images_but_not_with_the_number_of_workers(pictures):
    alone, shared = epochs(data_module(pictures)), epochs(data_module(pictures, num_workers=2))
    for first, second in zip(alone, shared, strict=True):
        for a, b in zip(first, second, strict=True):
            assert torch.equal(a["image"], b["image"]) and a["name"] == b["name"]
    by_name = [{n: i for b in epoch for n, i in zip(b["name"], b["image"], strict=True)} for epoch in alone]
    assert len(by_name[0]) == 36 and by_name[0].keys() == by_name[1].keys()
    assert not any(torch.equal(by_name[0][name], by_name[1][name]) for name in by_name[0])
    other_seed = epochs(data_module(pictures, seed=1), 1)[0]
    assert not torch.equal(alone[0][0]["image"], other_seed[0]["image"])


def test_augmenting_leaves_the_global_generators_alone():
    torch.manual_seed(0)
    np.random.seed(0)
    wanted = torch.rand(1), np.random.rand()
    torch.manual_seed(0)
    np.random.seed(0)
    with seeded(5):
        first = torch.rand(1), np.random.rand()
    assert (torch.rand(1), np.random.rand()) == wanted
    with seeded(5):
        assert (torch.rand(1), np.random.rand()) == first


def test_grey_deep_transparent_and_turned_images_are_read_as_elsewhere(pictures):
    folder = pictures / "colours" / "val" / "brick"
    for path in folder.iterdir():
        path.unlink()
    Image.new("L", (90, 70), 100).save(folder / "a.png")
    Image.fromarray(np.full((70, 90), 100 * 256, np.uint16)).save(folder / "b.PNG")
    Image.new("RGBA", (90, 70), (100, 100, 100, 0)).save(folder / "c.png")
    top = np.zeros((64, 64, 3), np.uint8)
    top[:32] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(top).save(folder / "d.jpeg", exif=exif, quality=95)
    images = next(iter(data_module(pictures).val_dataloader()))["image"]
    assert (images[:3] == 100).all()
    assert images[3][:, :20].max() < 30 and images[3][:, -20:].min() > 225


def test_validation_cuts_the_centre_after_resizing_to_256_for_224():
    column = np.repeat(np.arange(512)[None, :, None] / 2, 300, 0).repeat(3, 2).astype(np.uint8)  # 300 high, 512 wide
    crop = evaluation_transform(224)(Image.fromarray(column))
    assert crop.shape == (3, 224, 224) and crop.dtype == torch.uint8
    # The short side 300 becomes 256, so 224 px are 262.5 px of the original, around its middle at 256 px.
    assert crop[0, 100, 0].item() == pytest.approx((256 - 131.25) / 2, abs=1.5)
    assert crop[0, 100, -1].item() == pytest.approx((256 + 131.25) / 2, abs=1.5)


def test_erasing_puts_in_noise_of_imagenets_colours_and_changes_nothing_else():
    image = torch.randint(0, 256, (3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with seeded(1):
        erased = NoiseErasing(1.0)(image)
    assert erased.dtype == torch.uint8
    rows, columns = (erased != image).any(0).nonzero().T
    box = (slice(None), slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
    kept = torch.ones_like(image, dtype=torch.bool)
    kept[box] = False
    share = 1 - kept.float().mean().item()
    assert 0.02 <= share <= 0.34 and torch.equal(erased[kept], image[kept])
    noise = erased[box].float().flatten(1) / 255
    torch.testing.assert_close(noise.mean(1), torch.tensor(IMAGENET_DEFAULT_MEAN), atol=0.02, rtol=0)
    torch.testing.assert_close(noise.std(1), torch.tensor(IMAGENET_DEFAULT_STD), atol=0.02, rtol=0)
    assert torch.equal(NoiseErasing(0.0)(image), image)


def test_a_batch_is_shared_evenly_or_not_at_all():
    for world_size, accumulated, wanted in ((1, 1, 1024), (8, 1, 128), (1, 8, 128), (4, 2, 128), (16, 1, 64)):
        assert process_batch_size(1024, world_size, accumulated) == wanted
    message = (
        r"size is 1024, which does not divide by 6 \(processes x accumulated batches: 3 x 2\); use a multiple of 6"
    )
    with pytest.raises(ConfigError, match=message):
        process_batch_size(1024, 3, 2)


def test_processes_read_different_images_and_whole_steps(pictures):
    module, seen = data_module(pictures, total_batch_size=8), []
    for rank in (0, 1):
        strategy = SimpleNamespace(root_device=torch.device("cpu"))
        module.trainer = SimpleNamespace(global_rank=rank, world_size=2, accumulate_grad_batches=2, strategy=strategy)
        loader = module.train_dataloader()
        assert loader.batch_size == 2 and len(loader) == 8, "36 images are 4 steps of 8, in 2 x 2 batches of 2"
        seen.append({name for batch in loader for name in batch["name"]})
    assert len(seen[0]) == len(seen[1]) == 16 and not seen[0] & seen[1]


def test_the_images_left_over_change_with_the_epoch():
    sampler = WholeStepSampler(10, seed=0, rank=0, world_size=1, step=4)
    left = set()
    for epoch in range(20):
        sampler.set_epoch(epoch)
        taken = {key.frame for key in sampler}
        assert len(taken) == len(sampler) == 8
        left |= set(range(10)) - taken
    assert left == set(range(10))
