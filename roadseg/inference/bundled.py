"""The models that come with the package, and the one place where a model's name becomes a file.

A bundled name always means the bundled model, whatever lies in the working directory: results must not depend on where
a command runs. `./roadseg-nano`, `roadseg-nano.safetensors` and every `pathlib.Path` are paths.
"""

from pathlib import Path

from roadseg.errors import ModelFileError

DEFAULT_MODEL = "roadseg-nano"
"""What is used where no model is named."""

BUNDLED_MODELS = ("deeplabv3plus-mobilenet", "roadseg-nano")
"""Names of the models that come with the package, sorted; each has a card, NAME.md, beside its weights."""

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
"""The folder that holds them."""


def model_path(model: str | Path) -> Path:
    """The model file that a user means.

    Args:
        model: one of `BUNDLED_MODELS`, else a path.

    Returns:
        A path; of a bundled model, one that exists.

    Raises:
        ModelFileError: when a bundled model's file is missing, or the text is neither a bundled name nor a path.
    """
    if isinstance(model, Path):
        return model
    if model in BUNDLED_MODELS:
        return _bundled(model)
    path = Path(model)
    if not path.suffix and path.name == model and not path.exists():  # then it was meant as a name
        raise ModelFileError(
            f"no bundled model '{model}', and no such file; bundled: {', '.join(BUNDLED_MODELS)}. Name one of them, or "
            "make a model file with `roadseg package CKPT -o FILE`"
        )
    return path


def name_to_type(path: Path) -> str:
    """What a user gives a command for a model file: the name of a bundled model, else the path."""
    return path.stem if path.parent == WEIGHTS and path.stem in BUNDLED_MODELS else str(path)


def _bundled(name: str) -> Path:
    path = WEIGHTS / f"{name}.safetensors"
    if not path.is_file():
        raise ModelFileError(
            f"the bundled model '{name}' is not at {path}: this installation of roadseg is incomplete; install it again"
        )
    return path
