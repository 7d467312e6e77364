"""The place of the model: empty while it loads, then filled, or marked with the reason why not."""

import threading
from dataclasses import dataclass

from roadseg.inference.predictor import Predictor
from roadseg_service.problems import MODEL_NOT_READY, ProblemError

RETRY_AFTER_S = 2


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model that answers, or did.

    Attributes:
        name: for people.
        predictor: what segments.
    """

    name: str
    predictor: Predictor


class ModelSlot:
    """Holds the model that answers, from the moment it is loaded, and the one that did before.

    A request takes the model once, when it comes, and keeps it to its end: a switch changes nothing midway.

    Args:
        name: of the model that is to come, for messages.
    """

    def __init__(self, name: str) -> None:
        """Make an empty place."""
        self._name = name
        self._lock = threading.Lock()
        self._models: tuple[ServedModel | None, ServedModel | None] = (None, None)
        self._failure: str | None = None

    @property
    def name(self) -> str:
        """The name of the model that answers, else of the one that is to come."""
        active = self.active
        return self._name if active is None else active.name

    @property
    def active(self) -> ServedModel | None:
        """The model that answers."""
        return self._models[0]

    @property
    def previous(self) -> ServedModel | None:
        """The model that answered before, kept for going back."""
        return self._models[1]

    def get(self) -> ServedModel:
        """The model that answers.

        Raises:
            ProblemError: model-not-ready, while it loads (with Retry-After) or when loading it failed (without, since
                only an operator helps).
        """
        if (active := self.active) is not None:
            return active
        if self._failure is not None:
            raise ProblemError(MODEL_NOT_READY, f"model '{self.name}' could not be loaded: {self._failure}")
        raise ProblemError(
            MODEL_NOT_READY, f"model '{self.name}' is still loading; try again", {"Retry-After": str(RETRY_AFTER_S)}
        )

    def name_of(self, predictor: Predictor) -> str:
        """The name of the model that a request was given, which may have been replaced since."""
        names = [model.name for model in self._models if model is not None and model.predictor is predictor]
        return names[0] if names else self.name

    def switch(self, model: ServedModel) -> None:
        """Answer with another model from now on; the one before is kept, the one before that is let go."""
        with self._lock:
            self._models = (model, self.active)

    def go_back(self) -> ServedModel | None:
        """Answer with the model before, and keep the present one for going back once more.

        Returns:
            The model that answers now; None where there is none before, and nothing changed.
        """
        with self._lock:
            active, previous = self._models
            if previous is not None:
                self._models = (previous, active)
            return previous

    def fail(self, reason: str) -> None:
        """Note that there will be no model."""
        self._failure = reason
