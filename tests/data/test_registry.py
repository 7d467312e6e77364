"""The datasets by name: each opens, names its options, has a class table, and is documented."""

from pathlib import Path

import pytest

import roadseg
from roadseg.audit import CHECKS
from roadseg.data.class_table import load_class_table
from roadseg.data.registry import DATASETS, open_dataset
from roadseg.errors import ConfigError, DataError
from roadseg.taxonomy import list_taxonomies, load_taxonomy

PAGE = (Path(roadseg.__file__).parents[1] / "docs" / "data.md").read_text()
ON_DISK = sorted(name for name, spec in DATASETS.items() if spec.on_disk)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_the_default_taxonomy_can_be_taught_by_the_dataset(name):
    spec = DATASETS[name]
    taxonomy = load_taxonomy(spec.taxonomy)
    if spec.table is not None:
        sets = load_class_table(spec.table()).sets_in(taxonomy)
        assert any(len(s) == 1 for s in sets.values())


@pytest.mark.parametrize("name", ON_DISK)
def test_a_missing_dataset_names_the_folder_and_says_how_to_get_it(name, tmp_path):
    options = {"classes": {"road": 0}} if name == "folder" else {}
    with pytest.raises(DataError) as caught:
        open_dataset(name, tmp_path, **options)
    assert str(tmp_path / name) in str(caught.value)
    assert DATASETS[name].how_to_get


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_an_option_that_a_dataset_does_not_have_is_named(name, tmp_path):
    with pytest.raises(ConfigError, match=f"dataset '{name}' has no option 'colour_blind'"):
        open_dataset(name, tmp_path, colour_blind=True)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_the_documentation_lists_the_dataset(name):
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert any(f"`{name}`" in row.split("|")[1] for row in rows)


def test_the_documentation_lists_every_taxonomy_and_check():
    assert all(f"`{name}`" in PAGE for name in list_taxonomies())
    for check in CHECKS.values():
        assert f"| `{check.name}` | {check.severity} | {check.what} |" in PAGE
