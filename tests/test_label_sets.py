"""Label sets: the ids of masks where datasets do not tell classes apart."""

import numpy as np
import pytest

from roadseg.errors import TaxonomyError
from roadseg.label_sets import LabelSets, left_right_partners
from roadseg.taxonomy import RoadClass, Taxonomy, load_taxonomy

PARTNERS = """
name: turns
version: 1
classes:
  - {name: road, colour: [1, 0, 0]}
  - {name: lane_left, colour: [2, 0, 0], left_right: lane_right}
  - {name: lane_right, colour: [3, 0, 0], left_right: lane_left}
  - {name: sky, colour: [4, 0, 0]}
"""
ROAD, LEFT, RIGHT, SKY = range(4)


@pytest.fixture
def turns(tmp_path):
    path = tmp_path / "turns.yaml"
    path.write_text(PARTNERS)
    return load_taxonomy(path)


def many(count):
    return Taxonomy("many", 1, tuple(RoadClass(f"c{i}", (i, 0, 0)) for i in range(count)))


def test_ids_are_classes_first_then_merged_sets_in_a_fixed_order(turns):
    given = [{SKY, ROAD}, [], {SKY}, (ROAD, SKY, ROAD), {SKY, RIGHT, LEFT}]
    sets = LabelSets.collect(turns, given)
    assert sets.members == [(0,), (1,), (2,), (3,), (ROAD, SKY), (LEFT, RIGHT, SKY)] and len(sets) == 6
    assert LabelSets.collect(turns, given[::-1]) == sets  # whatever the order in which datasets are listed
    assert sets.names == ["road", "lane_left", "lane_right", "sky", "road+sky", "lane_left+lane_right+sky"]
    assert [sets.id_of(s) for s in ([SKY], {SKY, ROAD}, frozenset({LEFT, RIGHT, SKY}), ())] == [3, 4, 5, 255]
    assert sets.id_of((np.int64(SKY), np.uint8(ROAD), SKY)) == 4


def test_membership_says_which_class_is_in_which_set(turns):
    sets = LabelSets.collect(turns, [{SKY, ROAD}])
    assert sets.membership.dtype == bool
    assert sets.membership.astype(int).tolist() == [
        [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 1],
    ]  # fmt: skip


def test_without_merged_sets_there_are_the_classes_alone(turns):
    sets = LabelSets.collect(turns, [{ROAD}, set(), {SKY}])
    assert sets == LabelSets(turns) and len(sets) == 4 and sets.names == turns.names
    assert (sets.membership == np.eye(4, dtype=bool)).all()


def test_a_set_that_is_not_in_the_table_is_named(turns):
    sets = LabelSets.collect(turns, [{SKY, ROAD}])
    with pytest.raises(TaxonomyError, match=r"'turns' has no label set {road, lane_left} here"):
        sets.id_of([LEFT, ROAD])
    with pytest.raises(TaxonomyError, match=r"no label set {road, 9} here"):
        sets.id_of([9, ROAD])


def test_a_mirror_swaps_partners_also_inside_merged_sets(turns):
    assert left_right_partners(turns) == [ROAD, RIGHT, LEFT, SKY]
    sets = LabelSets.collect(turns, [{ROAD, LEFT}, {LEFT, RIGHT}, {SKY, ROAD}])
    # The mirror image of {road, lane_left} came in with it, though no dataset has it.
    assert sets.merged == ((ROAD, LEFT), (ROAD, RIGHT), (ROAD, SKY), (LEFT, RIGHT))
    assert sets.flip_table.dtype == np.uint8
    assert sets.flip_table[:8].tolist() == [ROAD, RIGHT, LEFT, SKY, 5, 4, 6, 7]
    assert sets.flip_table[8:].tolist() == list(range(8, 256))  # what is ignored stays so


def test_a_mirrored_mask_says_of_each_pixel_what_its_classes_become(turns):
    sets = LabelSets.collect(turns, [{ROAD, LEFT}, {LEFT, RIGHT, SKY}])
    mask = np.array([[LEFT, ROAD, sets.id_of([ROAD, LEFT])], [255, RIGHT, sets.id_of([LEFT, RIGHT, SKY])]], np.uint8)
    mirrored = sets.flip_table[mask[:, ::-1]]
    swap = {ROAD: ROAD, LEFT: RIGHT, RIGHT: LEFT, SKY: SKY}
    for y, x in np.ndindex(2, 3):
        before = set() if mask[y, x] == 255 else set(sets.members[mask[y, x]])
        after = set() if mirrored[y, 2 - x] == 255 else set(sets.members[mirrored[y, 2 - x]])
        assert after == {swap[c] for c in before}
    np.testing.assert_array_equal(sets.flip_table[sets.flip_table], np.arange(256))  # twice is never


def test_a_table_whose_mirror_image_is_missing_cannot_be_mirrored(turns):
    with pytest.raises(TaxonomyError, match=r"no label set {road, lane_right} here"):
        _ = LabelSets(turns, ((ROAD, LEFT),)).flip_table


def test_a_mask_has_ids_for_255_sets_and_no_more():
    taxonomy = many(200)
    pairs = [(0, i) for i in range(1, 56)]
    full = LabelSets.collect(taxonomy, pairs)
    assert len(full) == 255 and full.id_of((0, 55)) == 254 and full.flip_table[254] == 254
    with pytest.raises(
        TaxonomyError, match="'many': 200 classes and 56 merged sets are more than the 255 ids of a mask"
    ):
        LabelSets.collect(taxonomy, [*pairs, (1, 2)])
    assert len(LabelSets.collect(many(255), [])) == 255
