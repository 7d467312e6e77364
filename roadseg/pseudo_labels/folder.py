"""The folder of pseudo-labels: what the dataset `folder` reads, and enough beside it to go on where a run stopped.

    images/DRIVE/NAME.jpg    links to the images that were labelled
    masks/DRIVE/NAME.png     class ids; 255 where the model was not sure
    classes.yaml             what the ids mean
    settings.json            the model, the settings and the thresholds; one folder has one of each
    report.json              what was kept, written at the end

A mask carries, in a text chunk of its PNG, the key of the settings it was made with and its share of the report. So a
run that goes on needs no list of what is done, and its report equals that of an undisturbed one.
"""

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image

from roadseg.errors import ConfigError, DataError, OutputError
from roadseg.inference.result import encode_mask, write_whole
from roadseg.pseudo_labels.images import UnlabelledImage
from roadseg.taxonomy import IGNORE_INDEX, Taxonomy

_CHUNK = "roadseg"
_BEHIND_HEADER = 33
"""Bytes of a PNG's signature and first chunk, behind which a text chunk may stand."""


@dataclass
class Tally:
    """What was predicted and kept, by class.

    Attributes:
        predicted: (C,) pixels that the model takes for each class.
        kept: (C,) those that are kept.
        confidence: (C,) sum of the confidences of those that are kept.
    """

    predicted: npt.NDArray[np.int64]
    kept: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]

    @classmethod
    def of(
        cls,
        predicted: npt.NDArray[np.uint8],
        kept: npt.NDArray[np.uint8],
        confidence: npt.NDArray[np.float32],
        num_classes: int,
    ) -> "Tally":
        """The tally of an image: masks (H, W) of class ids before and after, and confidences (H, W)."""
        sums = np.bincount(kept.ravel(), confidence.ravel(), minlength=IGNORE_INDEX + 1).astype(np.float64)
        before, after = (np.bincount(mask.ravel(), minlength=IGNORE_INDEX + 1) for mask in (predicted, kept))
        return cls(before[:num_classes], after[:num_classes], sums[:num_classes])

    @classmethod
    def zero(cls, num_classes: int) -> "Tally":
        """The tally of no image."""
        counts = np.zeros(num_classes, np.int64)
        return cls(counts, counts.copy(), np.zeros(num_classes))

    def add(self, other: "Tally") -> None:
        """Add another tally to this one."""
        self.predicted += other.predicted
        self.kept += other.kept
        self.confidence += other.confidence

    def to_dict(self) -> dict[str, list[Any]]:
        """Plain values: class id -> predicted, kept, sum of confidences; of the classes that were predicted."""
        columns = (self.predicted.tolist(), self.kept.tolist(), self.confidence.tolist())
        return {str(c): list(row) for c, row in enumerate(zip(*columns, strict=True)) if row[0]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], num_classes: int) -> "Tally":
        """What `to_dict` gave.

        Raises:
            ValueError, TypeError, IndexError: when it is something else.
        """
        tally = cls.zero(num_classes)
        for c, (predicted, kept, confidence) in data.items():
            tally.predicted[int(c)], tally.kept[int(c)], tally.confidence[int(c)] = predicted, kept, confidence
        return tally


class PseudoLabelFolder:
    """Writes and finds pseudo-labels.

    Args:
        folder: where.
        taxonomy: the model's classes.
        settings: plain values that decide what is written: the model's digest and all parameters.
        resume: whether a folder that holds pseudo-labels of the same settings is gone on with.

    Raises:
        ConfigError: when the folder is not empty and is not to be gone on with, or was begun with other settings.
        DataError: when its settings cannot be read.
        OutputError: when it is a file.
    """

    def __init__(self, folder: str | Path, taxonomy: Taxonomy, settings: Mapping[str, Any], resume: bool) -> None:
        self.folder, self.taxonomy, self.settings = Path(folder), taxonomy, dict(settings)
        self.thresholds: npt.NDArray[np.float32] | None = None
        """(C,), once they are known."""
        self.sampled = 0
        """Images on which they were measured."""
        if self.folder.exists() and not self.folder.is_dir():
            raise OutputError(f"{folder} is a file; give a folder for the pseudo-labels")
        if self.folder.exists() and any(self.folder.iterdir()):
            self._take_up(resume)

    def probe(self) -> None:
        """Check that the folder can be made and written, and leave nothing behind.

        Raises:
            OutputError: when it cannot, or the file system has no symbolic links.
        """
        place = next(path for path in (self.folder.absolute(), *self.folder.absolute().parents) if path.exists())
        try:
            with TemporaryDirectory(prefix=".probe-", dir=place) as made:
                (Path(made) / "file").write_bytes(b"x")
                (Path(made) / "link").symlink_to("file")
        except OSError as error:
            raise OutputError(
                f"cannot write files and symbolic links into {place}: {error.strerror or error}; choose another folder "
                "for the pseudo-labels"
            ) from error

    def begin(self, thresholds: npt.NDArray[np.float32], sampled: int) -> None:
        """Write down the settings, by which the folder can be gone on with.

        Args:
            thresholds: (C,), the least confidence of each class.
            sampled: images on which they were measured.

        Raises:
            OutputError: when the folder cannot be written.
        """
        self.thresholds, self.sampled = thresholds, sampled
        write_whole(self.folder / "settings.json", self._document().encode())

    def write_class_table(self, licence: str) -> None:
        """Write what the ids mean.

        Args:
            licence: of the model's weights.

        Raises:
            OutputError: when the folder cannot be written.
        """
        write_whole(self.folder / "classes.yaml", self._class_table(licence).encode())

    def tally_of(self, image: UnlabelledImage) -> Tally | None:
        """The tally of an image that is done; None for one that is not.

        Raises:
            DataError: when another image, or a model with other settings, was written under this name.
        """
        mask, link = self._mask(image), self._link(image)
        if link.is_symlink() and os.readlink(link) != str(image.path):
            raise DataError(
                f"{link} stands for {os.readlink(link)}, not for {image.path}; label them into different folders"
            )
        if not mask.exists() or not link.is_symlink():
            return None
        try:
            with Image.open(mask, formats=("PNG",)) as opened:
                held = json.loads(opened.info.get(_CHUNK, "{}"))
            if held.get("settings") == self._key:
                return Tally.from_dict(held["tally"], len(self.taxonomy))
        except (OSError, ValueError, TypeError, KeyError, IndexError, SyntaxError, AttributeError) as error:
            raise DataError(f"{mask} cannot be read ({error}); delete it, so that it is made again") from error
        raise DataError(f"{mask} was not made with the settings of {self.folder}; delete it, so that it is made again")

    def write(self, image: UnlabelledImage, mask: npt.NDArray[np.uint8], tally: Tally) -> None:
        """Write the mask of an image, whole or not at all, behind the link to the image.

        Raises:
            OutputError: when they cannot be written.
        """
        link = self._link(image)
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(image.path)
        except OSError as error:
            raise OutputError(
                f"cannot link {link} to {image.path}: {error.strerror or error}; choose a folder on a file system with "
                "symbolic links"
            ) from error
        carried = json.dumps({"settings": self._key, "tally": tally.to_dict()})
        write_whole(self._mask(image), _with_text(encode_mask(mask, self.taxonomy), carried))

    def _link(self, image: UnlabelledImage) -> Path:
        return self.folder / "images" / f"{image.name}{image.path.suffix}"

    def _mask(self, image: UnlabelledImage) -> Path:
        return self.folder / "masks" / f"{image.name}.png"

    def _take_up(self, resume: bool) -> None:
        if not resume:
            raise ConfigError(f"{self.folder} is not empty; go on with it by --resume, or choose another folder")
        path = self.folder / "settings.json"
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            settings, thresholds = dict(held["settings"]), np.array(held["thresholds"], np.float32)
            sampled = int(held["sampled_images"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self.folder} holds no pseudo-labels that could be gone on with: {path} cannot be read ({error}); "
                "choose another folder"
            ) from error
        differing = [
            f"{name} was {settings.get(name)!r}, and is {self.settings.get(name)!r}"
            for name in sorted({*settings, *self.settings})
            if settings.get(name) != self.settings.get(name)
        ]
        if differing or thresholds.shape != (len(self.taxonomy),):
            raise ConfigError(
                f"{self.folder} was begun otherwise: {'; '.join(differing) or 'it has other classes'}. Masks of two "
                "kinds are not mixed in one folder: go on as it was begun, or choose another"
            )
        self.thresholds, self.sampled = thresholds, sampled

    @cached_property
    def _key(self) -> str:
        """Tells masks of these settings from others."""
        return hashlib.sha256(self._document().encode()).hexdigest()[:32]

    def _document(self) -> str:
        assert self.thresholds is not None
        document = {
            "settings": self.settings,
            "thresholds": self.thresholds.tolist(),
            "sampled_images": self.sampled,
        }
        return json.dumps(document, sort_keys=True, indent=2)

    def _class_table(self, licence: str) -> str:
        family = self.taxonomy.family or self.taxonomy.name
        labels: list[dict[str, Any]] = [
            {"id": i, "name": c.name, "colour": list(c.colour), "to": {family: [c.name]}}
            for i, c in enumerate(self.taxonomy.classes)
        ]
        labels.append({"id": IGNORE_INDEX, "name": "(not sure)"})
        table = {
            "name": f"pseudo-labels of {self.taxonomy.name}",
            "source": f"model sha256:{self.settings['model_digest']}",
            "licence": licence,
            "labels": labels,
        }
        return yaml.safe_dump(table, sort_keys=False, allow_unicode=True)


def _with_text(png: bytes, text: str) -> bytes:
    """A PNG with a text chunk, which readers that do not know it pass over."""
    body = b"tEXt" + _CHUNK.encode() + b"\0" + text.encode("latin-1")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:_BEHIND_HEADER] + chunk + png[_BEHIND_HEADER:]
