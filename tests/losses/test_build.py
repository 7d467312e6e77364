"""Sums of losses from configurations, and what they refuse."""

import pytest
import torch

from roadseg.errors import ConfigError
from roadseg.label_sets import LabelSets
from roadseg.losses import LOSSES, build_loss
from tests.losses.cases import NUM_CLASSES, SETS, TAXONOMY, WEIGHTS, case

WEIGHT_TENSOR = torch.tensor(WEIGHTS, dtype=torch.float64)


def test_terms_are_weighed_and_added():
    logits, mask = case()
    terms = [{"name": "cross_entropy"}, {"name": "dice", "weight": 0.5, "smooth": 1.0}, {"name": "focal", "gamma": 1.0}]
    parts = [float(build_loss([{**term, "weight": 1.0}], SETS, WEIGHT_TENSOR)(logits, mask)) for term in terms]
    loss = build_loss(terms, SETS, WEIGHT_TENSOR)
    assert float(loss(logits, mask)) == pytest.approx(parts[0] + 0.5 * parts[1] + parts[2], rel=1e-12)
    told = {name: float(term) for name, term in loss.terms(logits, mask).items()}
    assert told == pytest.approx({"cross_entropy": parts[0], "dice": 0.5 * parts[1], "focal": parts[2]}, rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("sets", [SETS, LabelSets(TAXONOMY)])
def test_ids_that_are_no_set_weigh_nothing(name, sets):
    logits, mask = case()
    mask = torch.where(mask < len(sets), mask, 255)
    strange = torch.where(mask == 255, 200, mask)
    loss = build_loss([{"name": name}], sets, WEIGHT_TENSOR)
    assert (strange == 200).any() and torch.equal(loss(logits, strange), loss(logits, mask))


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_built_by_name_and_moves_with_the_network(name):
    loss = build_loss([{"name": name}], SETS, WEIGHT_TENSOR).to("meta")
    assert all(buffer.device.type == "meta" for buffer in loss.buffers()) and list(loss.buffers())
    assert not loss.state_dict()  # nothing of a loss belongs into a checkpoint


def test_label_smoothing_reaches_cross_entropy():
    logits, mask = case()
    plain, smooth = (build_loss([{"name": "cross_entropy"}], SETS, None, e)(logits, mask) for e in (0.0, 0.2))
    p = logits.log_softmax(1).movedim(1, -1)[mask != 255]
    expected = 0.8 * plain + 0.2 * -p.sum() / NUM_CLASSES / len(p)
    assert torch.allclose(smooth, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("terms", "smoothing", "named"),
    [
        ([], 0.0, "model.loss is empty"),
        ([{"name": "crossentropy"}], 0.0, "names 'crossentropy'; known: cross_entropy, ohem"),
        ([{}], 0.0, "names None"),
        ([{"name": ["dice"]}], 0.0, r"names \['dice'\]"),
        ([{"name": "dice"}, {"name": "dice"}], 0.0, "names dice twice"),
        ([{"name": "dice", "gamma": 2}], 0.0, "dice has no option 'gamma'; it has smooth"),
        ([{"name": "cross_entropy", "class_weights": {}}], 0.0, "has no option 'class_weights'; it has none"),
        ([{"name": "dice", "weight": 0}], 0.0, "dice.weight is 0"),
        ([{"name": "dice", "weight": "1"}], 0.0, "dice.weight is '1'"),
        ([{"name": "focal", "gamma": "2"}], 0.0, "focal cannot be made with {'gamma': '2'}"),
        ([{"name": "lovasz", "stride": 0}], 0.0, "lovasz: stride is 0"),
        (["dice"], 0.0, r"model.loss holds 'dice'; write each term as a mapping: \{name: dice\}"),
        ("dice", 0.0, r"model.loss is 'dice'; give a list of terms: \[\{name: cross_entropy\}\]"),
        ({"name": "dice"}, 0.0, "model.loss is {'name': 'dice'}; give a list of terms"),
        ([{"name": "dice", "smooth": "a"}], 0.0, "dice cannot be made with {'smooth': 'a'}"),
        ([{"name": "dice", 3: 4}], 0.0, "dice has no option '3'"),
        ([{"name": "dice"}], 0.1, "label_smoothing is 0.1, which only cross_entropy has"),
    ],
)
def test_what_cannot_work_is_named(terms, smoothing, named):
    with pytest.raises(ConfigError, match=named):
        build_loss(terms, SETS, None, smoothing)
