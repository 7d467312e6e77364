"""Inference options: what is refused, and how they travel."""

import json
import math

import pytest

from roadseg.errors import ConfigError
from roadseg.inference.options import InferenceOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_pixels": 0}, "max_pixels is 0; use a whole number of pixels, from 1"),
        ({"max_pixels": 2e6}, "max_pixels is 2000000.0; use a whole number"),
        ({"max_pixels": True}, "max_pixels is True"),
        ({"window": 1024}, r"window is 1024; use \(height, width\) in px, multiples of 32 from 64"),
        ({"window": (1024,)}, "window is"),
        ({"window": (1000, 1024)}, r"window is \(1000, 1024\); .* multiples of 32"),
        ({"window": (32, 64)}, r"window is \(32, 64\)"),
        ({"window": (-64, 64)}, "window is"),
        ({"overlap": 25}, "overlap is 25; use a share from 0 to 0.9"),
        ({"overlap": -0.1}, "overlap is -0.1"),
        ({"overlap": math.nan}, "overlap is nan"),
        ({"overlap": "0.5"}, "overlap is '0.5'"),
        ({"scales": ()}, r"scales is \(\); use one factor or more, each from 0.1 to 4.0"),
        ({"scales": 1.5}, "scales is 1.5"),
        ({"scales": (1.0, 0)}, "scales is"),
        ({"scales": (math.inf,)}, "scales is"),
        ({"scales": (math.nan,)}, "scales is"),
        ({"scales": "1.0"}, "scales is '1.0'"),
        ({"scales": [1, 1.0]}, r"scales is \(1, 1.0\); name each factor once"),
        ({"flip": 1}, "flip is 1; use true or false"),
        ({"flip": "no"}, "flip is 'no'"),
        ({"min_confidence": 50}, "min_confidence is 50; use a share from 0 to 1"),
        ({"min_confidence": math.nan}, "min_confidence is nan"),
        ({"min_confidence": False}, "min_confidence is False"),
        ({"confidence_kind": "entropy"}, "confidence_kind is 'entropy'; known: probability, margin"),
        ({"confidence_kind": ["margin"]}, "confidence_kind is"),
    ],
)
def test_a_value_that_cannot_work_is_named_with_what_can(options, message):
    with pytest.raises(ConfigError, match=message):
        InferenceOptions(**options)


def test_options_come_back_from_json_as_they_were():
    for options in (
        InferenceOptions(),
        InferenceOptions(
            max_pixels=10**6,
            window=(512, 768),
            overlap=0.5,
            scales=(0.75, 1.0, 1.5),
            flip=True,
            min_confidence=0.4,
            confidence_kind="margin",
        ),
    ):
        read = InferenceOptions(**json.loads(json.dumps(options.to_dict())))
        assert read == options and hash(read) == hash(options)
    assert InferenceOptions().to_dict() == {
        "max_pixels": 2097152,
        "window": [1024, 1024],
        "overlap": 0.25,
        "scales": [1.0],
        "flip": False,
        "min_confidence": None,
        "confidence_kind": "probability",
    }


@pytest.mark.parametrize(
    ("options", "augmented"),
    [
        ({}, False),
        ({"scales": [1]}, False),
        ({"flip": True}, True),
        ({"scales": (0.5,)}, True),
        ({"scales": (1, 2)}, True),
    ],
)
def test_only_other_views_than_the_image_itself_are_augmentation(options, augmented):
    assert InferenceOptions(**options).augmented is augmented
