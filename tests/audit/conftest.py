"""Trees that several modules audit."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from roadseg.audit import AuditReport, audit
from roadseg.data.datasets.camvid import open_camvid
from roadseg.data.mapped import MappedFrames
from roadseg.errors import DataError
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import load_taxonomy
from tests.audit.planted import Tree, write_clean_tree


@pytest.fixture(scope="session")
def clean_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Never changed."""
    root = tmp_path_factory.mktemp("clean") / "camvid"
    write_clean_tree(root)
    return root


@pytest.fixture
def tree(clean_root: Path, tmp_path: Path) -> Tree:
    """A copy to spoil."""
    return Tree(Path(shutil.copytree(clean_root, tmp_path / "camvid")))


def mapped_splits(root: Path, taxonomy: str = "camvid11") -> dict[str, list[MappedFrames]]:
    """The tree as the data module opens it."""
    source = open_camvid(root)
    target = load_taxonomy(taxonomy)
    sets = LabelSets.collect(target, source.classes.sets_in(target).values())
    splits = source.frames.splits
    rows = {split: [i for i, frame in enumerate(source.frames) if frame.split == split] for split in splits}
    return {split: [MappedFrames(source.take(rows[split]), sets)] for split in splits}


@pytest.fixture
def audit_root() -> Callable[..., AuditReport]:
    """Audits a CamVid tree as the command line does: what cannot be opened is a problem to report."""

    def run(root: Path, **options: object) -> AuditReport:
        settings = {"workers": 1, "progress": False, **options}
        try:
            splits = mapped_splits(root)
        except DataError as error:
            return audit({}, problems=[("camvid", error)], **settings)
        return audit(splits, **settings)

    return run
