"""Which classes of a taxonomy each dataset of a mixture can teach, from its label map alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from roadseg.data.class_table import ClassTable, list_class_tables, load_class_table
from roadseg.taxonomy import Taxonomy

_NAMED = 3
"""Other classes of a label that a cell names; the rest are counted."""


@dataclass(frozen=True)
class Coverage:
    """What datasets teach.

    Attributes:
        taxonomy: the classes.
        cells: for each dataset, class name -> "yes" where labels say exactly this class, the others of the smallest
            label that may mean it ("with road, crosswalk") where none says exactly that, "" where no label may mean it.
    """

    taxonomy: Taxonomy
    cells: Mapping[str, Mapping[str, str]]

    @property
    def untaught(self) -> list[str]:
        """Classes that no dataset labels by themselves."""
        return [name for name in self.taxonomy.names if all(cells[name] != "yes" for cells in self.cells.values())]

    def to_text(self) -> str:
        """A table, a row a class and a column a dataset."""
        rows = [
            ["class", *self.cells],
            *([name, *(c[name] or "-" for c in self.cells.values())] for name in self.taxonomy.names),
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        )

    def to_dict(self) -> dict[str, object]:
        """Plain values, fit for JSON."""
        return {
            "taxonomy": self.taxonomy.name,
            "datasets": {k: dict(v) for k, v in self.cells.items()},
            "untaught": self.untaught,
        }


def coverage(tables: Sequence[tuple[str, ClassTable]], taxonomy: Taxonomy) -> Coverage:
    """What datasets teach.

    Args:
        tables: name and class table of each dataset that gives training frames.
        taxonomy: the classes.

    Raises:
        DataError: when a dataset's labels are not mapped to the taxonomy.
    """
    cells: dict[str, dict[str, str]] = {}
    for name, table in tables:
        sets = [s for s in table.sets_in(taxonomy).values() if s]
        column = f"{name} ({sum(n.partition(' (')[0] == name for n in cells) + 1})" if name in cells else name
        cells[column] = {c: _cell(i, sets, taxonomy) for i, c in enumerate(taxonomy.names)}
    return Coverage(taxonomy, cells)


def _cell(index: int, sets: Sequence[frozenset[int]], taxonomy: Taxonomy) -> str:
    holding = sorted((s for s in sets if index in s), key=lambda s: (len(s), sorted(s)))
    if not holding:
        return ""
    if len(holding[0]) == 1:
        return "yes"
    others = [taxonomy.names[i] for i in sorted(holding[0] - {index})]
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    return "with " + ", ".join(others[:_NAMED]) + more


def teachers(class_name: str, taxonomy: Taxonomy) -> list[str]:
    """Names of the class tables that come with roadseg and label a class by itself."""
    found = []
    for name in list_class_tables():
        table = load_class_table(name)
        if any((taxonomy.family or taxonomy.name) in label.to for label in table.labels):
            sets = table.sets_in(taxonomy).values()
            if frozenset({taxonomy.id_of(class_name)}) in sets:
                found.append(name)
    return found
