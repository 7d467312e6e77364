"""A clean tree in CamVid's layout, and ways to spoil a copy of it; each says which check must name which file."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from roadseg.data.class_table import load_class_table
from roadseg.data.synthetic import Label, render_scene

SIZE = (64, 96)
TRAIN = [f"{drive}_{number:04d}" for drive in ("0001A", "0002B") for number in range(6)]
VAL = [f"0003C_{number:04d}" for number in range(6)]
VICTIM = "0001A_0003"

_CAMVID_OF = {
    Label.ROAD: 3, Label.LANE_MARKING: 3, Label.SIDEWALK: 4, Label.BARRIER: 7, Label.POLE: 2, Label.STREET_LIGHT: 2,
    Label.TRAFFIC_SIGN: 6, Label.TRAFFIC_LIGHT: 6, Label.BUILDING: 1, Label.VEGETATION: 5, Label.TERRAIN: 5,
    Label.SKY: 0, Label.VEHICLE: 8,
}  # fmt: skip


def write_clean_tree(root: Path) -> None:
    """12 training and 6 validation frames of three drives; every label occurs in every frame."""
    lookup = np.zeros(256, np.uint8)
    lookup[list(_CAMVID_OF)] = list(_CAMVID_OF.values())
    for seed, name in enumerate(TRAIN + VAL):
        split = "train" if name in TRAIN else "val"
        scene = render_scene(seed, SIZE)
        mask = lookup[scene.mask]
        for place, label in enumerate((2, 6, 7, 9, 10)):  # what scenes lack, or may lack
            mask[40:46, 10 + 8 * place : 14 + 8 * place] = label
        mask[-4:, :20] = 11
        mask[:3, 60:66], mask[-9:-6, 30:60], mask[20:26, 80:88], mask[30:34, 4:9] = 0, 3, 1, 5
        mask[50:54, 70:80], mask[48:52, 2:9] = 4, 8
        for folder, pixels in ((split, scene.image), (f"{split}annot", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / folder / f"{name}.png")


class Tree:
    """A copy to spoil."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def image(self, name: str = VICTIM) -> Path:
        return self.root / ("train" if name in TRAIN else "val") / f"{name}.png"

    def mask(self, name: str = VICTIM) -> Path:
        return self.root / ("trainannot" if name in TRAIN else "valannot") / f"{name}.png"

    def change_mask(self, change: Callable[[np.ndarray], np.ndarray], name: str = VICTIM) -> str:
        Image.fromarray(change(np.array(Image.open(self.mask(name))))).save(self.mask(name))
        return str(self.mask(name))

    def change_masks(self, change: Callable[[np.ndarray], np.ndarray], names: list[str]) -> set[str]:
        return {self.change_mask(change, name) for name in names}

    def pixels(self, name: str = VICTIM) -> np.ndarray:
        return np.array(Image.open(self.image(name)))


class Expected(NamedTuple):
    """The one check that must speak, and what it must name: files, or drives and classes."""

    check: str
    named: set[str]


def colours() -> np.ndarray:
    """(12, 3) uint8: colours of CamVid's labels by id."""
    return np.array([label.colour for label in load_class_table("camvid").labels], np.uint8)


def jpeg(pixels: np.ndarray, quality: int, **options: object) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=quality, **options)
    return data.getvalue()


def _bilinear(mask: np.ndarray, factor: float) -> np.ndarray:
    size = (round(mask.shape[1] * factor), round(mask.shape[0] * factor))
    there = cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR)
    return cv2.resize(there, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)


def mask_of_0_and_255(tree: Tree, name: str = VICTIM) -> Expected:
    return Expected("binary-mask", {tree.change_mask(lambda m: np.where(m == 3, 255, 0).astype(np.uint8), name)})


def mask_of_one_bit(tree: Tree) -> Expected:
    return Expected("binary-mask", {tree.change_mask(lambda m: m == 3)})


def mask_black_and_white_in_rgb(tree: Tree) -> Expected:
    def spoil(mask: np.ndarray) -> np.ndarray:
        return np.repeat(np.where(mask == 3, 255, 0).astype(np.uint8)[..., None], 3, axis=2)

    return Expected("binary-mask", {tree.change_mask(spoil)})


def one_mask_too_high_by_one(tree: Tree) -> Expected:
    return Expected("off-by-one", {tree.change_mask(lambda m: m + 1)})


def all_masks_too_high_by_one(tree: Tree) -> Expected:
    named = tree.change_masks(lambda m: m + 1, TRAIN + VAL)
    return Expected("off-by-one", named)


def all_masks_too_high_by_one_within_the_table(tree: Tree) -> Expected:
    """No unlabelled pixels: then no id is beyond the table."""
    return Expected(
        "off-by-one", tree.change_masks(lambda m: np.where(m == 11, 3, m).astype(np.uint8) + 1, TRAIN + VAL)
    )


def all_masks_too_low_by_one(tree: Tree) -> Expected:
    return Expected("off-by-one", tree.change_masks(lambda m: m - 1, TRAIN + VAL))


def palette_in_another_order(tree: Tree) -> Expected:
    """What `Image.convert("P", palette=ADAPTIVE)` of a colour-coded mask makes: indices by frequency."""
    mask = np.array(Image.open(tree.mask()))
    order = np.argsort(-np.bincount(mask.ravel(), minlength=12), kind="stable")
    index_of = np.argsort(order).astype(np.uint8)
    image = Image.fromarray(index_of[mask])
    image.putpalette(colours()[order].tobytes())
    image.save(tree.mask())
    return Expected("palette-colours", {str(tree.mask())})


def mask_in_colours(tree: Tree) -> Expected:
    return Expected("colour-mask", {tree.change_mask(lambda m: colours()[m])})


def mask_of_ids_in_rgb(tree: Tree) -> Expected:
    return Expected("colour-mask", {tree.change_mask(lambda m: np.repeat(m[..., None], 3, axis=2))})


def colours_turned_to_grey(tree: Tree) -> Expected:
    return Expected("grey-colours", {tree.change_mask(lambda m: cv2.cvtColor(colours()[m], cv2.COLOR_RGB2GRAY))})


def mask_is_a_jpeg(tree: Tree) -> Expected:
    tree.mask().write_bytes(jpeg(np.array(Image.open(tree.mask())), 95))
    return Expected("lossy-mask", {str(tree.mask())})


def mask_was_a_jpeg_once(tree: Tree) -> Expected:
    return Expected("lossy-mask", {tree.change_mask(lambda m: np.array(Image.open(io.BytesIO(jpeg(m, 75)))))})


def mask_was_a_good_jpeg_once(tree: Tree) -> Expected:
    return Expected("lossy-mask", {tree.change_mask(lambda m: np.array(Image.open(io.BytesIO(jpeg(m, 92)))))})


def mask_resized_with_interpolation(tree: Tree) -> Expected:
    return Expected("lossy-mask", {tree.change_mask(lambda m: _bilinear(m, 2))})


def colour_mask_was_a_jpeg_once(tree: Tree) -> Expected:
    return Expected(
        "lossy-mask", {tree.change_mask(lambda m: np.array(Image.open(io.BytesIO(jpeg(colours()[m], 95)))))}
    )


def image_without_mask(tree: Tree) -> Expected:
    tree.mask().unlink()
    return Expected("unpaired", {str(tree.image())})


def mask_without_image(tree: Tree) -> Expected:
    tree.image().unlink()
    return Expected("unpaired", {str(tree.mask())})


def truncated_png_image(tree: Tree) -> Expected:
    tree.image().write_bytes(tree.image().read_bytes()[:-2000])
    return Expected("unreadable-image", {str(tree.image())})


def truncated_jpeg_image(tree: Tree) -> Expected:
    tree.image().write_bytes(jpeg(tree.pixels(), 90)[:1500])
    return Expected("unreadable-image", {str(tree.image())})


def empty_image(tree: Tree) -> Expected:
    tree.image().write_bytes(b"")
    return Expected("unreadable-image", {str(tree.image())})


def image_is_a_web_page(tree: Tree) -> Expected:
    tree.image().write_text("<!doctype html><title>404</title>")
    return Expected("unreadable-image", {str(tree.image())})


def empty_mask(tree: Tree) -> Expected:
    tree.mask().write_bytes(b"")
    return Expected("unreadable-mask", {str(tree.mask())})


def truncated_mask(tree: Tree) -> Expected:
    data = tree.mask().read_bytes()
    tree.mask().write_bytes(data[: len(data) // 2])
    return Expected("unreadable-mask", {str(tree.mask())})


def flipped_bytes_in_mask(tree: Tree) -> Expected:
    data = bytearray(tree.mask().read_bytes())
    data[60:90] = bytes(30)
    tree.mask().write_bytes(data)
    return Expected("unreadable-mask", {str(tree.mask())})


def mask_of_half_the_size(tree: Tree) -> Expected:
    return Expected("size-mismatch", {tree.change_mask(lambda m: m[::2, ::2])})


def mask_turned(tree: Tree) -> Expected:
    return Expected("size-mismatch", {tree.change_mask(lambda m: np.ascontiguousarray(m.T))})


def _turn_by_exif(tree: Tree) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    tree.image().write_bytes(jpeg(tree.pixels(), 95, exif=exif))


def exif_orientation(tree: Tree) -> Expected:
    _turn_by_exif(tree)
    return Expected("exif-orientation", {str(tree.image())})


def exif_orientation_with_turned_mask(tree: Tree) -> Expected:
    _turn_by_exif(tree)
    tree.change_mask(lambda m: np.ascontiguousarray(np.rot90(m, -1)))
    return Expected("exif-orientation", {str(tree.image())})


def image_of_16_bits_in_grey(tree: Tree) -> Expected:
    grey = cv2.cvtColor(tree.pixels(), cv2.COLOR_RGB2GRAY).astype(np.uint16) * 257
    Image.fromarray(grey).save(tree.image())
    return Expected("image-16bit", {str(tree.image())})


def image_of_16_bits_in_colour(tree: Tree) -> Expected:
    cv2.imwrite(str(tree.image()), tree.pixels()[..., ::-1].astype(np.uint16) * 257)
    return Expected("image-16bit", {str(tree.image())})


def image_with_alpha(tree: Tree) -> Expected:
    Image.fromarray(tree.pixels()).convert("RGBA").save(tree.image())
    return Expected("image-alpha", {str(tree.image())})


def grey_image(tree: Tree) -> Expected:
    Image.fromarray(tree.pixels()).convert("L").save(tree.image())
    return Expected("image-grey", {str(tree.image())})


def cmyk_image(tree: Tree) -> Expected:
    Image.fromarray(tree.pixels()).convert("CMYK").save(tree.image(), "JPEG", quality=95)
    return Expected("image-cmyk", {str(tree.image())})


def black_image(tree: Tree) -> Expected:
    Image.fromarray(np.zeros_like(tree.pixels())).save(tree.image())
    return Expected("image-blank", {str(tree.image())})


def frame_of_another_size(tree: Tree) -> Expected:
    Image.fromarray(tree.pixels()).resize((48, 32)).save(tree.image())
    tree.change_mask(lambda m: m[::2, ::2])
    return Expected("odd-size", {str(tree.image())})


def label_out_of_the_table(tree: Tree) -> Expected:
    def spoil(mask: np.ndarray) -> np.ndarray:
        mask[10:20, 10:20] = 37
        return mask

    return Expected("unknown-label", {tree.change_mask(spoil)})


def unlabelled_as_255(tree: Tree) -> Expected:
    return Expected("unknown-label", {tree.change_mask(lambda m: np.where(m == 11, 255, m).astype(np.uint8))})


def ids_stretched_to_16_bits(tree: Tree) -> Expected:
    return Expected("unknown-label", {tree.change_mask(lambda m: m.astype(np.uint16) * 257)})


def mask_all_unlabelled(tree: Tree) -> Expected:
    return Expected("mask-all-ignored", {tree.change_mask(lambda m: np.full_like(m, 11))})


def mask_all_road(tree: Tree) -> Expected:
    return Expected("mask-constant", {tree.change_mask(lambda m: np.full_like(m, 3))})


def training_frame_in_val(tree: Tree) -> Expected:
    """Recompressed, brighter, under another name."""
    brighter = np.clip(tree.pixels().astype(int) * 1.1 + 10, 0, 255).astype(np.uint8)
    tree.image(VAL[2]).write_bytes(jpeg(brighter, 60))
    shutil.copy(tree.mask(), tree.mask(VAL[2]))
    return Expected("leak-frame", {str(tree.image(VAL[2]))})


def drive_in_train_and_val(tree: Tree) -> Expected:
    for path in (tree.image(VAL[0]), tree.mask(VAL[0])):
        path.rename(path.with_name("0002B_0099.png"))
    return Expected("leak-drive", {"0002B"})


def frame_twice(tree: Tree) -> Expected:
    shutil.copy(tree.image(TRAIN[8]), tree.image(TRAIN[9]))
    shutil.copy(tree.mask(TRAIN[8]), tree.mask(TRAIN[9]))
    return Expected("duplicate-frame", {str(tree.image(TRAIN[9]))})


def class_never_trained(tree: Tree) -> Expected:
    tree.change_masks(lambda m: np.where(m == 10, 11, m).astype(np.uint8), TRAIN)
    return Expected("class-missing", {"bicyclist"})


def class_of_three_pixels(tree: Tree) -> Expected:
    tree.change_masks(lambda m: np.where(m == 9, 11, m).astype(np.uint8), TRAIN)

    def keep_three(mask: np.ndarray) -> np.ndarray:
        mask[40, 30:33] = 9
        return mask

    tree.change_mask(keep_three)
    return Expected("class-rare", {"pedestrian"})


def class_not_in_val(tree: Tree) -> Expected:
    tree.change_masks(lambda m: np.where(m == 10, 11, m).astype(np.uint8), VAL)
    return Expected("class-unscored", {"bicyclist"})


PLANTERS: list[Callable[[Tree], Expected]] = [
    value
    for name, value in list(globals().items())
    if callable(value) and getattr(value, "__annotations__", {}).get("return") is Expected
]
