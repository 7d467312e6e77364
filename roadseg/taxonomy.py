"""Taxonomies: the classes a model tells apart, their colours and groups.

A taxonomy is a YAML file; the ones that come with roadseg lie in `roadseg/taxonomies/` and are loaded by name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from roadseg.errors import TaxonomyError

IGNORE_INDEX = 255
"""Mask value of pixels that are neither trained on nor scored."""

_FOLDER = Path(__file__).parent / "taxonomies"


@dataclass(frozen=True)
class RoadClass:
    """One class of a taxonomy.

    Attributes:
        name: lower-case identifier, unique in the taxonomy.
        colour: (red, green, blue), each 0..255, unique in the taxonomy.
        group: coarse kind of thing, for example "surface" or "furniture".
        left_right: name of the class this one becomes when the image is mirrored, or None.
        refines: name of the class of the taxonomy's family that this one is a part of, or None.
    """

    name: str
    colour: tuple[int, int, int]
    group: str = "other"
    left_right: str | None = None
    refines: str | None = None


@dataclass(frozen=True)
class Taxonomy:
    """An ordered list of classes; a class's position is its id in every mask.

    Attributes:
        name: identifier of the taxonomy.
        version: raised whenever ids change their meaning.
        classes: at most 255, since 255 is the ignore id.
        ignore_index: always 255.
        family: taxonomies of one family share the meaning of their class names: they leave classes out, or refine them.
            A dataset's label map is written once for a family. None is a family of its own.

    Raises:
        TaxonomyError: on duplicate names or colours, bad colours, unknown partners, or no classes.
    """

    name: str
    version: int
    classes: tuple[RoadClass, ...]
    ignore_index: int = IGNORE_INDEX
    family: str | None = None

    def __post_init__(self) -> None:
        """Check that ids, names and colours are unambiguous."""
        where = f"taxonomy '{self.name}'"
        if not 1 <= len(self.classes) <= IGNORE_INDEX:
            raise TaxonomyError(f"{where} has {len(self.classes)} classes; a taxonomy has 1 to {IGNORE_INDEX}")
        if self.ignore_index != IGNORE_INDEX:
            raise TaxonomyError(f"{where}: ignore_index is {self.ignore_index}; it must be {IGNORE_INDEX}")
        _refuse_duplicates(where, "class name", [c.name for c in self.classes])
        _refuse_duplicates(where, "colour", [c.colour for c in self.classes])
        for c in self.classes:
            _check_class(where, c, {other.name: other.left_right for other in self.classes})

    def __len__(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def names(self) -> list[str]:
        """Class names, in id order."""
        return [c.name for c in self.classes]

    def id_of(self, name: str) -> int:
        """Id of a class.

        Raises:
            TaxonomyError: when there is no such class; the message lists those there are.
        """
        if name not in self.names:
            raise TaxonomyError(f"taxonomy '{self.name}' has no class '{name}'; it has {', '.join(self.names)}")
        return self.names.index(name)

    @cached_property
    def palette(self) -> npt.NDArray[np.uint8]:
        """(256, 3) uint8 RGB: row i is the colour of id i; ids without a class, 255 among them, are black."""
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(self.classes)] = [c.colour for c in self.classes]
        return palette

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, fit for JSON and YAML."""
        classes = [{k: list(v) if k == "colour" else v for k, v in asdict(c).items()} for c in self.classes]
        for c in classes:
            if c["refines"] is None:  # left out, so that files of before this key compare equal
                del c["refines"]
        document = {"name": self.name, "version": self.version, "ignore_index": self.ignore_index, "classes": classes}
        return document if self.family is None else {**document, "family": self.family}

    @classmethod
    def from_dict(cls, data: Any, source: str = "taxonomy") -> "Taxonomy":
        """Build a taxonomy from what `to_dict` or a YAML file gives.

        Args:
            data: mapping with name, version and classes.
            source: what to call it in an error, usually a path.

        Raises:
            TaxonomyError: when a key is missing, unknown or of the wrong type.
        """
        if not isinstance(data, Mapping):
            raise TaxonomyError(
                f"{source}: expected a mapping with name, version and classes, got {type(data).__name__}"
            )
        _check_keys(source, data, required={"name", "version", "classes"}, optional={"ignore_index", "family"})
        for key, kind in (("name", str), ("version", int)):
            if type(data[key]) is not kind or data[key] == "":
                raise TaxonomyError(f"{source}: '{key}' must be a {kind.__name__}, got {data[key]!r}")
        if not isinstance(data["classes"], list):
            raise TaxonomyError(f"{source}: 'classes' must be a list, got {data['classes']!r}")
        classes = tuple(_class_from(f"{source}: class {i}", entry) for i, entry in enumerate(data["classes"]))
        family = data.get("family")
        if family is not None and type(family) is not str:
            raise TaxonomyError(f"{source}: 'family' must be a word, got {family!r}")
        return cls(data["name"], data["version"], classes, data.get("ignore_index", IGNORE_INDEX), family)

    def subset(self, name: str, version: int, class_names: Sequence[str]) -> "Taxonomy":
        """The taxonomy of some of these classes, in the order given; of the same family.

        A left/right partner that is left out is forgotten, and its class then has none.

        Raises:
            TaxonomyError: when a name is unknown.
        """
        classes = [self.classes[self.id_of(class_name)] for class_name in class_names]
        kept = [c if c.left_right in class_names else replace(c, left_right=None) for c in classes]
        return Taxonomy(name, version, tuple(kept), self.ignore_index, self.family or self.name)


def list_taxonomies() -> list[str]:
    """Names of the taxonomies that come with roadseg, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load_taxonomy(name_or_path: str | Path) -> Taxonomy:
    """Load a taxonomy by name (one that comes with roadseg) or from a YAML file.

    Raises:
        TaxonomyError: when there is none, or the file is wrong.
    """
    return _load(name_or_path, ())


def _load(name_or_path: str | Path, inside: tuple[Path, ...]) -> Taxonomy:
    """A taxonomy, while the files `inside` are being loaded, each of which takes its classes from the next."""
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        path = _FOLDER / f"{name_or_path}.yaml"
    if path.resolve() in inside:
        raise TaxonomyError(f"{path}: subset_of leads back to this file; name a taxonomy that lists its own classes")
    if not path.is_file():
        raise TaxonomyError(
            f"no taxonomy '{name_or_path}': give one of {', '.join(list_taxonomies())}, or the path of a .yaml file"
        )
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TaxonomyError(f"{path} is not a YAML file: {error}") from error
    if isinstance(data, Mapping) and "subset_of" in data:
        return _subset_from(data, path, inside)
    return Taxonomy.from_dict(data, str(path))


def _subset_from(data: Mapping[str, Any], source: Path, inside: tuple[Path, ...]) -> Taxonomy:
    """A file that names the classes it takes from another taxonomy, which is a name or a path relative to the file."""
    _check_keys(str(source), data, required={"name", "version", "subset_of", "classes"}, optional=set())
    names = data["classes"]
    if not isinstance(names, list) or not all(type(name) is str for name in names):
        raise TaxonomyError(
            f"{source}: 'classes' must be a list of class names of '{data['subset_of']}', got {names!r}"
        )
    for key, kind in (("name", str), ("version", int), ("subset_of", str)):
        if type(data[key]) is not kind or data[key] == "":
            raise TaxonomyError(f"{source}: '{key}' must be a {kind.__name__}, got {data[key]!r}")
    whole = data["subset_of"]
    is_path = Path(whole).suffix in {".yaml", ".yml"}
    taxonomy = _load(source.parent / whole if is_path else whole, (*inside, source.resolve()))
    try:
        return taxonomy.subset(data["name"], data["version"], names)
    except TaxonomyError as error:
        raise TaxonomyError(f"{source}: {error}") from error


def _class_from(where: str, entry: Any) -> RoadClass:
    if not isinstance(entry, Mapping):
        raise TaxonomyError(f"{where}: expected a mapping with name and colour, got {entry!r}")
    _check_keys(where, entry, required={"name", "colour"}, optional={"group", "left_right", "refines"})
    colour = entry["colour"]
    if not (isinstance(colour, list | tuple) and len(colour) == 3 and all(type(v) is int for v in colour)):
        raise TaxonomyError(f"{where}: colour must be three integers [red, green, blue], got {colour!r}")
    name, partner, refined = entry["name"], entry.get("left_right"), entry.get("refines")
    if type(name) is not str or not name or any(w is not None and type(w) is not str for w in (partner, refined)):
        raise TaxonomyError(
            f"{where}: name, left_right and refines must be words, got {name!r}, {partner!r} and {refined!r}"
        )
    return RoadClass(name, (colour[0], colour[1], colour[2]), str(entry.get("group", "other")), partner, refined)


def _check_keys(where: str, data: Mapping[str, Any], required: set[str], optional: set[str]) -> None:
    missing, unknown = sorted(required - set(data)), sorted(map(str, set(data) - required - optional))
    if missing:
        raise TaxonomyError(f"{where}: missing {', '.join(missing)}")
    if unknown:
        raise TaxonomyError(
            f"{where}: unknown key {', '.join(unknown)}; known: {', '.join(sorted(required | optional))}"
        )


def _refuse_duplicates(where: str, what: str, values: list[Any]) -> None:
    duplicates = sorted({str(v) for v in values if values.count(v) > 1})
    if duplicates:
        raise TaxonomyError(f"{where}: {what} {', '.join(duplicates)} occurs more than once")


def _check_class(where: str, c: RoadClass, partner_of: Mapping[str, str | None]) -> None:
    if any(not 0 <= v <= 255 for v in c.colour):
        raise TaxonomyError(f"{where}: class '{c.name}' has colour {list(c.colour)}; each value must be 0..255")
    if c.left_right is not None and partner_of.get(c.left_right) != c.name:
        raise TaxonomyError(
            f"{where}: class '{c.name}' names '{c.left_right}' as its left_right partner, which must be a class that "
            f"names '{c.name}' in return"
        )
    if c.refines == c.name:
        raise TaxonomyError(f"{where}: class '{c.name}' refines itself; name the coarser class that it is a part of")
