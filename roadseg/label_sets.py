"""Sets of classes as labels: what a mask says where a dataset does not tell classes apart.

A mask holds set ids. Of a taxonomy with C classes, ids 0..C-1 are the sets of one class, ids from C on the merged sets
({road, lane_marking}: the pixel is one of the two), and 255 is the empty set, which is ignored.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from roadseg.errors import TaxonomyError
from roadseg.taxonomy import IGNORE_INDEX, Taxonomy


@dataclass(frozen=True)
class LabelSets:
    """The set ids that masks of a taxonomy may hold.

    Attributes:
        taxonomy: the classes.
        merged: sets of two classes or more, as sorted class ids; set C + i is merged[i].
    """

    taxonomy: Taxonomy
    merged: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def collect(cls, taxonomy: Taxonomy, sets: Iterable[Collection[int]]) -> "LabelSets":
        """The table of every set that occurs, with the mirror image of each.

        Args:
            taxonomy: the classes.
            sets: sets of class ids, also empty ones and ones of one class, in any order.

        Raises:
            TaxonomyError: when there are more sets than a mask has ids.
        """
        partner = left_right_partners(taxonomy)
        merged: set[tuple[int, ...]] = set()
        for members in sets:
            for form in (members, [partner[c] for c in members]):
                merged.add(tuple(sorted(set(map(int, form)))))
        kept = tuple(sorted(members for members in merged if len(members) > 1))
        if len(taxonomy) + len(kept) > IGNORE_INDEX:
            raise TaxonomyError(
                f"taxonomy '{taxonomy.name}': {len(taxonomy)} classes and {len(kept)} merged sets are more than the "
                f"{IGNORE_INDEX} ids of a mask; train on fewer datasets at once, or merge classes"
            )
        return cls(taxonomy, kept)

    def __len__(self) -> int:
        """Number of set ids: classes and merged sets."""
        return len(self.taxonomy) + len(self.merged)

    @cached_property
    def members(self) -> list[tuple[int, ...]]:
        """Class ids of each set id."""
        return [(i,) for i in range(len(self.taxonomy))] + list(self.merged)

    @cached_property
    def membership(self) -> npt.NDArray[np.bool_]:
        """(len(self), C): whether class c is in set s."""
        table = np.zeros((len(self), len(self.taxonomy)), bool)
        for i, members in enumerate(self.members):
            table[i, list(members)] = True
        return table

    @property
    def names(self) -> list[str]:
        """Name of each set id: the class's, or its classes' joined by +."""
        return ["+".join(self.taxonomy.names[c] for c in members) for members in self.members]

    def id_of(self, classes: Collection[int]) -> int:
        """Set id of some class ids; 255 for none.

        Raises:
            TaxonomyError: when the set is not in the table.
        """
        if not classes:
            return IGNORE_INDEX
        members = tuple(sorted(set(map(int, classes))))
        if members not in self._id_of:
            named = [self.taxonomy.names[c] if 0 <= c < len(self.taxonomy) else str(c) for c in members]
            raise TaxonomyError(f"taxonomy '{self.taxonomy.name}' has no label set {{{', '.join(named)}}} here")
        return self._id_of[members]

    @cached_property
    def flip_table(self) -> npt.NDArray[np.uint8]:
        """(256,) uint8: the id of each set in the mirrored image."""
        partner = left_right_partners(self.taxonomy)
        table = np.arange(256, dtype=np.uint8)
        for i, members in enumerate(self.members):
            table[i] = self.id_of([partner[c] for c in members])
        return table

    @cached_property
    def _id_of(self) -> dict[tuple[int, ...], int]:
        return {members: i for i, members in enumerate(self.members)}


def left_right_partners(taxonomy: Taxonomy) -> list[int]:
    """For each class id the one it becomes in a mirrored image; most stay themselves."""
    return [i if c.left_right is None else taxonomy.id_of(c.left_right) for i, c in enumerate(taxonomy.classes)]
