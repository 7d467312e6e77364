"""Pre-labels: masks in the formats that labelling tools import."""

from roadseg.inference.segmenting.prelabels.writing import FORMATS, write_prelabels

__all__ = ["FORMATS", "write_prelabels"]
