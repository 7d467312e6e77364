"""A dataset's official labels: their ids, names and colours, and what each means in the project's taxonomies.

A class table is a YAML file beside this module, in `class_tables/`; a user's own has the same form:

    name: my_drives
    source: where the table is published
    licence: under which terms the data may be used
    labels:
      - {id: 0, name: void, colour: [0, 0, 0]}
      - {id: 1, name: street, colour: [128, 64, 128], to: {hdmap: [road, lane_marking, crosswalk]}}

`to` says by taxonomy family which classes a pixel of this label may be: one when the dataset says exactly that, several
when it does not tell them apart, none (or no entry) when it is to be ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from roadseg.errors import DataError, TaxonomyError
from roadseg.taxonomy import Taxonomy, list_taxonomies, load_taxonomy

MAX_LABEL_ID = 65535
_FOLDER = Path(__file__).parent / "class_tables"


@dataclass(frozen=True)
class SourceLabel:
    """One official label.

    Attributes:
        id: its value in masks, 0..65535.
        name: as published.
        colour: (red, green, blue) as published, or None.
        to: taxonomy family -> names of the classes that a pixel of this label may be.
        train_id: its value in the dataset's own masks for training, if it has such, else None.
    """

    id: int
    name: str
    colour: tuple[int, int, int] | None = None
    to: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    train_id: int | None = None


@dataclass(frozen=True)
class ClassTable:
    """The official labels of a dataset.

    Attributes:
        name: the dataset.
        labels: with unique ids.
        source: where the table is published.
        licence: terms of the data.

    Raises:
        DataError: when an id occurs twice, or is out of range.
    """

    name: str
    labels: tuple[SourceLabel, ...]
    source: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        """Check that an id says which label it is."""
        ids = [label.id for label in self.labels]
        repeated = sorted({i for i in ids if ids.count(i) > 1})
        if repeated:
            raise DataError(f"class table '{self.name}': id {', '.join(map(str, repeated))} occurs more than once")
        for label in self.labels:
            if not 0 <= label.id <= MAX_LABEL_ID:
                raise DataError(f"class table '{self.name}': label '{label.name}' has id {label.id}; use 0..65535")

    @property
    def ids(self) -> list[int]:
        """Ids of the labels, in the table's order."""
        return [label.id for label in self.labels]

    def label(self, name: str) -> SourceLabel:
        """The label of a name.

        Raises:
            DataError: when there is none; the message lists those there are.
        """
        for label in self.labels:
            if label.name == name:
                return label
        known = ", ".join(label.name for label in self.labels)
        raise DataError(f"class table '{self.name}' has no label '{name}'; it has {known}")

    def with_targets(self, family: str, targets: Mapping[str, list[str]]) -> "ClassTable":
        """This table with other meanings of some labels.

        Args:
            family: of the taxonomy whose class names are used.
            targets: label name -> class names; an empty list ignores the label.

        Raises:
            DataError: when a label is unknown.
        """
        for name in targets:
            self.label(name)
        labels = [
            SourceLabel(x.id, x.name, x.colour, {**x.to, family: tuple(targets[x.name])}, x.train_id)
            if x.name in targets
            else x
            for x in self.labels
        ]
        return ClassTable(self.name, tuple(labels), self.source, self.licence)

    def sets_in(self, taxonomy: Taxonomy) -> dict[int, frozenset[int]]:
        """What each label means in a taxonomy: label id -> class ids, none to ignore it.

        Raises:
            DataError: when the table says nothing of the taxonomy's family, or names an unknown class.
        """
        family = taxonomy.family or taxonomy.name
        if not any(family in label.to for label in self.labels):
            known = sorted({f for label in self.labels for f in label.to})
            if not known:
                skeleton = ", ".join(f"{label.name}: []" for label in self.labels[:5])
                more = ", ..." if len(self.labels) > 5 else ""
                raise DataError(
                    f"nothing says what labels of dataset '{self.name}' are in taxonomy '{taxonomy.name}': give it a "
                    f"label_map with the classes of each, label_map: {{{skeleton}{more}}}"
                )
            raise DataError(
                f"the labels of dataset '{self.name}' are mapped to {', '.join(known)}, but not to "
                f"taxonomy '{taxonomy.name}': choose another data.taxonomy, or give the dataset a label_map"
            )
        resolve = _Resolver(taxonomy)
        try:
            return {x.id: frozenset[int]().union(*map(resolve, x.to.get(family, ()))) for x in self.labels}
        except TaxonomyError as error:
            raise DataError(f"class table '{self.name}': {error}") from error


def list_class_tables() -> list[str]:
    """Names of the class tables that come with roadseg, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load_class_table(name_or_path: str | Path) -> ClassTable:
    """Load a class table by name (one that comes with roadseg) or from a YAML file.

    Raises:
        DataError: when there is none, or the file is wrong; the message names the label.
    """
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        path = _FOLDER / f"{name_or_path}.yaml"
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        known = ", ".join(list_class_tables())
        raise DataError(f"no class table '{name_or_path}': give one of {known}, or the path of a .yaml file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"class table {path} is not a YAML file: {error}") from error
    if not isinstance(data, Mapping) or not isinstance(data.get("labels"), list):
        raise DataError(f"class table {path}: expected a mapping with name and a list of labels")
    unknown = sorted(set(map(str, data)) - {"name", "title", "source", "licence", "labels"})
    if unknown:
        raise DataError(f"class table {path}: unknown key {', '.join(unknown)}")
    labels = tuple(_label_from(f"class table {path}, label {i}", entry) for i, entry in enumerate(data["labels"]))
    return ClassTable(
        str(data.get("name", path.stem)), labels, str(data.get("source", "")), str(data.get("licence", ""))
    )


def colour_lookup(table: ClassTable) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint16]]:
    """Sorted colours, packed as red << 16 | green << 8 | blue, and the label id of each.

    Raises:
        DataError: when two labels of different meaning share a colour.
    """
    id_of: dict[int, int] = {}
    for label in table.labels:
        if label.colour is None:
            continue
        packed = label.colour[0] << 16 | label.colour[1] << 8 | label.colour[2]
        first = id_of.setdefault(packed, label.id)
        if first != label.id and next(x for x in table.labels if x.id == first).to != label.to:
            raise DataError(
                f"class table '{table.name}': labels {first} and {label.id} share the colour {list(label.colour)}"
            )
    colours = sorted(id_of)
    return np.array(colours, np.int64), np.array([id_of[c] for c in colours], np.uint16)


class _Resolver:
    """Class ids that a class name of the family stands for in one of its taxonomies."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._taxonomy = taxonomy
        self._refines: dict[str, str | None] = {}
        family = taxonomy.family or taxonomy.name
        relatives = _packaged_taxonomies() if taxonomy.family else ()
        for relative in [*(r for r in relatives if (r.family or r.name) == family), taxonomy]:
            for c in relative.classes:
                self._refines[c.name] = c.refines or self._refines.get(c.name)

    def __call__(self, name: str) -> set[int]:
        taxonomy = self._taxonomy
        parts = {i for i, c in enumerate(taxonomy.classes) if name in self._upwards(c.name)}
        if parts:
            return parts
        if name not in self._refines:
            return {taxonomy.id_of(name)}  # which names what there is
        # Only a class that this one is a part of stands for it; where there are but its siblings, it is left out.
        wholes = [whole for whole in self._upwards(name) if whole in taxonomy.names]
        return {taxonomy.id_of(whole) for whole in wholes[:1]}

    def _upwards(self, name: str) -> list[str]:
        """A class and those that it is a part of, directly or not."""
        chain: list[str] = []
        whole: str | None = name
        while whole is not None and whole not in chain:
            chain.append(whole)
            whole = self._refines.get(whole)
        return chain


@cache  # YAML is slow to read, and every dataset of a mixture asks
def _packaged_taxonomies() -> tuple[Taxonomy, ...]:
    return tuple(load_taxonomy(name) for name in list_taxonomies())


def _label_from(where: str, entry: Any) -> SourceLabel:
    keys = {"id", "name", "colour", "to", "train_id"}
    if not isinstance(entry, Mapping) or not {"id", "name"} <= set(entry) or set(entry) - keys:
        raise DataError(f"{where}: expected id and name, and if wanted colour, to and train_id; got {entry!r}")
    colour, to, train_id = entry.get("colour"), entry.get("to") or {}, entry.get("train_id")
    if type(entry["id"]) is not int or not (train_id is None or type(train_id) is int):
        raise DataError(f"{where}: id and train_id must be whole numbers, got {entry['id']!r} and {train_id!r}")
    if colour is not None and not (
        isinstance(colour, list) and len(colour) == 3 and all(type(v) is int and 0 <= v <= 255 for v in colour)
    ):
        raise DataError(f"{where}: colour must be [red, green, blue], each 0..255, got {colour!r}")
    if not isinstance(to, Mapping) or not all(
        isinstance(names, list) and all(type(n) is str for n in names) for names in to.values()
    ):
        raise DataError(f"{where}: 'to' must give a list of class names for each taxonomy family, got {to!r}")
    targets = {str(family): tuple(names) for family, names in to.items()}
    return SourceLabel(entry["id"], str(entry["name"]), tuple(colour) if colour else None, targets, train_id)
