"""Which files a request may name as models."""

from pathlib import Path

from roadseg.errors import ConfigError
from roadseg.inference.bundled import BUNDLED_MODELS, model_path
from roadseg_service.problems import MODEL_NOT_ALLOWED, ProblemError


def check_models_dir(models_dir: str | None) -> None:
    """Refuse what is no folder.

    Raises:
        ConfigError: when it is none.
    """
    if models_dir is not None and not Path(models_dir).is_dir():
        raise ConfigError(f"models_dir is '{models_dir}', and there is no such folder; make it, or name another")


def find_model(model: str, models_dir: str | None) -> Path:
    """The path of the model that a request names.

    Args:
        model: a bundled model's name, or a path in the folder of models, absolute or from there.
        models_dir: that folder; None allows bundled models alone.

    Returns:
        A path of something that exists, links resolved, so that none leads out of the folder.

    Raises:
        ProblemError: model-not-allowed; of what is not in the folder it does not tell whether it exists.
        ModelFileError: when a bundled model's file is missing.
    """
    if model in BUNDLED_MODELS:
        return model_path(model)
    if models_dir is None:
        raise _refused(
            f"model is '{model[:200]}', and this service loads bundled models only: {', '.join(BUNDLED_MODELS)}; name "
            "one of them, or start the service with models_dir, the folder of the models that may be named"
        )
    folder = Path(models_dir).resolve()
    try:
        path = (folder / model).resolve()
        found = path != folder and path.is_relative_to(folder) and path.exists()
    except (OSError, ValueError, RuntimeError):  # a name with a null character, too long a name, links in a circle
        found = False
    if not found:
        raise _refused(
            f"there is no model '{model[:200]}' in the folder of models; name a file or an exported model's folder "
            f"below it, or a bundled model: {', '.join(BUNDLED_MODELS)}"
        )
    return path


def _refused(detail: str) -> ProblemError:
    return ProblemError(MODEL_NOT_ALLOWED, detail)
