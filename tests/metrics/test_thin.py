"""Skeleton recall, precision and clDice of cases done by hand."""

import numpy as np
import pytest

from roadseg.errors import TaxonomyError
from roadseg.label_sets import LabelSets
from roadseg.metrics.skeleton import skeletonise
from roadseg.metrics.suite import MetricSuite
from roadseg.taxonomy import load_taxonomy
from tests.metrics.scenes import (
    IGNORED,
    MERGED,
    PLAIN,
    POLE,
    ROAD,
    SKY,
    SURFACE,
    predicted_region,
    random_case,
    region_of,
)


def scored(predicted, truth, sets=PLAIN):
    suite = MetricSuite(sets, ["pole"])
    counts = suite.count(predicted, truth)
    return counts["thin"].tolist(), suite.scores(counts)["thin"]["pole"]


def sky(height=30, width=20):
    return np.full((height, width), SKY, np.uint8)


def test_a_pole_found_in_part():
    """One pixel wide, rows 5 to 24; predicted from row 15 on, and further below: 10 of 20 found, 10 of 14 right."""
    truth, predicted = sky(), sky()
    truth[5:25, 8], predicted[15:29, 8] = POLE, POLE
    counts, scores = scored(predicted, truth)
    assert counts == [[10, 20, 10, 14]]
    recall, precision = 10 / 20, 10 / 14
    assert scores == pytest.approx(
        {"recall": recall, "precision": precision, "cldice": 2 * recall * precision / (recall + precision)}
    )


def test_width_does_not_matter_but_place_does():
    """A pole drawn three pixels wide around a line of one: its IoU is 1/3, but the line is there."""
    truth, predicted, aside = sky(), sky(), sky()
    truth[:, 8], predicted[:, 7:10], aside[:, 10] = POLE, POLE, POLE
    assert scored(predicted, truth)[1] == {"recall": 1, "precision": 1, "cldice": 1}
    assert scored(aside, truth)[1] == {"recall": 0, "precision": 0, "cldice": 0}


def test_a_side_without_a_line():
    truth = sky()
    truth[:, 8] = POLE
    assert scored(sky(), truth)[1] == {"recall": 0, "precision": None, "cldice": 0}
    assert scored(truth, sky())[1] == {"recall": None, "precision": 0, "cldice": 0}
    assert scored(sky(), sky())[1] == {"recall": None, "precision": None, "cldice": None}


def test_a_line_predicted_where_no_label_says_is_not_wrong():
    truth, predicted = sky(), sky()
    truth[:, 8], truth[:, 12:] = POLE, IGNORED
    predicted[:, 8], predicted[:, 15] = POLE, POLE
    assert scored(predicted, truth)[0] == [[30, 30, 30, 30]]


def test_a_class_that_only_occurs_merged_has_no_score():
    """{road, lane_marking} says nothing of lane_marking; what is predicted of it elsewhere could only be wrong."""
    truth, predicted = sky(), sky()
    truth[15:], predicted[14:] = SURFACE, ROAD
    predicted[10:, 5] = 1
    suite = MetricSuite(MERGED)
    assert suite.scores(suite.count(predicted, truth))["thin"]["lane_marking"] == {
        "recall": None,
        "precision": None,
        "cldice": None,
    }


@pytest.mark.parametrize("seed", range(4))
def test_counts_are_those_of_whole_masks_and_the_definition_on_sets(seed):
    """The suite looks at a box of the image only, and reads sets from tables."""
    predicted, truth = random_case(seed)
    counts = MetricSuite(MERGED, ["sky", "lane_marking"]).count(predicted, truth)["thin"]
    for row, region in zip(counts.tolist(), (SKY, 1), strict=True):
        inside, said = region_of(MERGED, region, truth)
        ours = predicted_region(MERGED, region, predicted, said)
        first, second = skeletonise(inside), skeletonise(ours)
        assert row == [(first & ours).sum(), first.sum(), (second & inside).sum(), second.sum()]


def test_thin_classes_are_found_by_name_or_chosen():
    def of(name):
        return list(MetricSuite(LabelSets(load_taxonomy(name))).thin)

    assert of("hdmap-camvid") == ["lane_marking", "pole", "traffic_sign"]
    assert of("camvid11") == ["pole", "sign_symbol"]
    assert of("camvid32") == ["Column_Pole", "LaneMkgsDriv", "LaneMkgsNonDriv", "SignSymbol"]
    assert of("hdmap") == of("hdmap-synthetic") == ["lane_marking", "pole", "street_light", "traffic_sign"]
    assert of("cityscapes19") == ["pole", "traffic sign"]
    assert of("ade150") == ["signboard", "streetlight", "pole"]
    assert {"lane_solid", "lane_dashed", "pole", "street_light", "traffic_sign"} < set(of("hdmap-lanes"))
    assert MetricSuite(PLAIN, ["sky"]).thin == {"sky": SKY}
    assert MetricSuite(PLAIN, []).thin == {}
    with pytest.raises(TaxonomyError, match="no class 'lamp'; it has road, lane_marking, sky, pole"):
        MetricSuite(PLAIN, ["lamp"])
