"""What commands offer is what there is."""

import pytest

from roadseg.inference.artefact import FILES
from roadseg.inference.choices import ARTEFACT_FORMATS
from roadseg.inference.engines import ENGINES


def test_formats_are_those_that_are_written_read_and_run():
    write = pytest.importorskip("roadseg.inference.export.write")
    assert set(ARTEFACT_FORMATS) == set(FILES) == set(write.WRITERS)
    assert set(ARTEFACT_FORMATS) <= set(ENGINES)
