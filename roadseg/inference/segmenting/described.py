"""What segments, as a manifest tells of it: a predictor on the spot, or that of a service."""

from typing import Protocol

from roadseg.inference.options import InferenceOptions
from roadseg.taxonomy import Taxonomy


class DescribedEngine(Protocol):
    """What a header tells of an engine; an `roadseg.inference.engines.Engine` is one."""

    @property
    def name(self) -> str:
        """As in `roadseg.inference.engines.ENGINES`, or as a service tells it."""

    @property
    def precision(self) -> str:
        """That it computes in."""

    @property
    def device(self) -> str:
        """That it runs on."""


class Described(Protocol):
    """What a header tells of what segments: of a `Predictor`, or of the one that a service has."""

    @property
    def digest(self) -> str:
        """SHA-256 of the model file, in hexadecimal."""

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes of the masks."""

    @property
    def engine(self) -> DescribedEngine:
        """What runs the network."""

    @property
    def options(self) -> InferenceOptions:
        """How images are segmented."""
