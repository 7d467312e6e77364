"""Whether a model is the one that an operator means."""

from dataclasses import dataclass

from roadseg.inference.artefact import Artefact
from roadseg.inference.package import ModelFile
from roadseg.taxonomy import Taxonomy
from roadseg_service.models.slot import ServedModel
from roadseg_service.problems import MODEL_MISMATCH, ProblemError


@dataclass(frozen=True)
class Wanted:
    """The model that is to take the place.

    Attributes:
        model: a bundled model's name, or a path in the folder of models.
        digest: SHA-256 that it must have, in hexadecimal.
        allow_taxonomy_change: whether it may have other classes than the one that answers.
    """

    model: str
    digest: str | None = None
    allow_taxonomy_change: bool = False


def check(wanted: Wanted, found: ModelFile | Artefact, active: ServedModel | None) -> None:
    """Refuse a model that is not the one that is meant.

    Args:
        wanted: what is asked for.
        found: what was found.
        active: the model that answers; None where there is none.

    Raises:
        ProblemError: model-mismatch, when the digest is another one, or the classes are and that is not said.
    """
    if wanted.digest is not None and wanted.digest != found.digest:
        raise ProblemError(
            MODEL_MISMATCH,
            f"the digest of '{wanted.model}' is {found.digest}, and {wanted.digest} was asked for; copy the right file",
        )
    if active is None or wanted.allow_taxonomy_change:
        return
    before, after = active.predictor.taxonomy, found.header.taxonomy
    if before != after:
        raise ProblemError(
            MODEL_MISMATCH,
            f"the classes of '{wanted.model}' are {_named(after)}, and clients get {_named(before)} now; "
            "ask for allow_taxonomy_change if that is meant",
        )


def _named(taxonomy: Taxonomy) -> str:
    return f"{taxonomy.name}/{taxonomy.version} ({', '.join(taxonomy.names)})"
