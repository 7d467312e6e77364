"""The place of the model: empty while it loads, then filled, or marked with the reason why not."""

import logging
from collections.abc import Callable

from roadseg.errors import RoadsegError
from roadseg.inference.predictor import Predictor
from roadseg_service.problems import MODEL_NOT_READY, ProblemError

log = logging.getLogger("roadseg.service")

RETRY_AFTER_S = 2


class ModelSlot:
    """Holds the predictor from the moment it is loaded.

    Args:
        name: the model's name, for messages.
    """

    def __init__(self, name: str) -> None:
        """Make an empty place."""
        self.name = name
        self._predictor: Predictor | None = None
        self._failure: str | None = None

    def fill(self, load: Callable[[], Predictor]) -> None:
        """Load the model; a failure is kept and logged, not raised, since this runs beside the server."""
        try:
            self._predictor = load()
        except RoadsegError as error:
            self._failure = str(error)
            log.error("model '%s' could not be loaded: %s", self.name, error)
        except Exception as error:
            self._failure = f"{type(error).__name__}; the server's log has the details"
            log.error("model '%s' could not be loaded", self.name, exc_info=error)
        else:
            log.info("model '%s' is loaded", self.name)

    def get(self) -> Predictor:
        """The predictor.

        Raises:
            ProblemError: model-not-ready, while it loads (with Retry-After) or when loading it failed (without, since
                only a restart helps).
        """
        if self._predictor is not None:
            return self._predictor
        if self._failure is not None:
            raise ProblemError(MODEL_NOT_READY, f"model '{self.name}' could not be loaded: {self._failure}")
        raise ProblemError(
            MODEL_NOT_READY, f"model '{self.name}' is still loading; try again", {"Retry-After": str(RETRY_AFTER_S)}
        )
