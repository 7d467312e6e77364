"""Types of command-line arguments."""

from argparse import ArgumentTypeError

import pytest

from roadseg.arguments import name_list, whole_from_0, whole_from_1, wholes_from_1


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "1e3", " 1", "1_000", "\u0663", "\u00b2", "one"])
def test_what_is_no_whole_number_is_refused_with_what_was_given(text):
    for kind in (whole_from_0, whole_from_1):
        with pytest.raises(ArgumentTypeError, match=r"'; use a whole number of at least [01]$"):
            kind(text)


def test_zero_is_enough_for_one_of_the_two():
    assert whole_from_0("0") == 0 and whole_from_1("007") == 7
    with pytest.raises(ArgumentTypeError, match="'0'; use a whole number of at least 1"):
        whole_from_1("0")


def test_lists_keep_their_order_and_each_once():
    assert name_list(" torch, onnx,,torch ") == ["torch", "onnx"]
    assert wholes_from_1("4,1, 4") == [4, 1]
    with pytest.raises(ArgumentTypeError, match="'0'; use a whole number"):
        wholes_from_1("1,0")


@pytest.mark.parametrize("text", ["", " ", ",,"])
def test_an_empty_list_is_refused(text):
    with pytest.raises(ArgumentTypeError, match="give at least one, with commas between"):
        name_list(text)
