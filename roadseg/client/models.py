"""The models that a service answers with, and their taxonomies."""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from roadseg.client.wire import Reply, Request
from roadseg.errors import ServiceAnswerError, TaxonomyError
from roadseg.taxonomy import Taxonomy

MODELS_REQUEST = Request("GET", "/v1/models", headers={"Accept": "application/json"}, about="its models")


@dataclass(frozen=True)
class RemoteModel:
    """A model that a service answers with.

    Attributes:
        name: what the service calls it.
        digest: SHA-256 of the model file, in hexadecimal.
        taxonomy: what its class ids mean.
        engine: what runs it.
        precision: of its numbers.
        device: where it runs.
    """

    name: str
    digest: str
    taxonomy: Taxonomy
    engine: str = "unknown"
    precision: str = "unknown"
    device: str = "unknown"

    @property
    def label(self) -> tuple[str, int]:
        """Name and version of the taxonomy. The version is raised whenever ids change their meaning."""
        return self.taxonomy.name, self.taxonomy.version


class KnownModels:
    """What a client was told of a service's models. Threads may share one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_digest: dict[str, RemoteModel] = {}

    def learn(self, models: list[RemoteModel]) -> None:
        """Keep what a service lists now, in place of what it listed before."""
        with self._lock:
            self._by_digest = {model.digest: model for model in models}

    def taxonomy(self, reply: Reply) -> Taxonomy | None:
        """The taxonomy of an answer's model; None where the model is not known, or has another one now."""
        digest, label = digest_of(reply), _label_of(reply)
        with self._lock:
            model = self._by_digest.get(digest)
        return model.taxonomy if model is not None and model.label == label else None

    def same_taxonomy(self, reply: Reply) -> Taxonomy | None:
        """A known taxonomy of the name and version that an answer names, whichever model it is of.

        While a service is replaced machine by machine, the one that answers and the one that lists its models differ.
        """
        label = _label_of(reply)
        with self._lock:
            known = (model for model in self._by_digest.values() if model.label == label)
            model = next(known, None)
        return None if model is None else model.taxonomy


def read_models(reply: Reply) -> list[RemoteModel]:
    """The models in an answer to `MODELS_REQUEST`; at least one.

    Raises:
        ServiceAnswerError: when it is none.
    """
    try:
        models = [_model(entry) for entry in json.loads(reply.body)["models"]]
    except (ValueError, KeyError, TypeError, AttributeError, TaxonomyError) as error:
        raise ServiceAnswerError(
            f"what answers at /v1/models lists no models of roadseg ({error!r}); check the URL, and that client and "
            "service are of one version",
            status=reply.status,
        ) from error
    if not models:
        raise ServiceAnswerError("the service lists no model at /v1/models; see its log", status=reply.status)
    return models


def digest_of(reply: Reply) -> str:
    """Digest of the model that answered.

    Raises:
        ServiceAnswerError: when the answer does not say.
    """
    return _header(reply, "X-Roadseg-Model-Digest")


def _label_of(reply: Reply) -> tuple[str, int]:
    value = _header(reply, "X-Roadseg-Taxonomy")
    name, _, version = value.rpartition("/")
    if not version.isascii() or not version.isdigit():
        raise ServiceAnswerError(
            f"X-Roadseg-Taxonomy is '{value[:80]}', not NAME/VERSION; check what answers at the URL"
        )
    return unquote(name), int(version)


def _header(reply: Reply, name: str) -> str:
    value = reply.headers.get(name)
    if not value:
        raise ServiceAnswerError(
            f"an answer of status {reply.status} has no {name}; check that the URL is that of a roadseg service, and "
            "that a proxy before it keeps its headers",
            status=reply.status,
        )
    return value


def _model(entry: Mapping[str, Any]) -> RemoteModel:
    told = {key: entry[key] for key in ("engine", "precision", "device") if isinstance(entry.get(key), str)}
    return RemoteModel(str(entry["name"]), str(entry["digest"]), _taxonomy(entry["taxonomy"]), **told)


def _taxonomy(entry: Mapping[str, Any]) -> Taxonomy:
    classes = sorted(entry["classes"], key=lambda c: c["id"])
    if [c["id"] for c in classes] != list(range(len(classes))):
        raise TaxonomyError(f"class ids {[c['id'] for c in classes]}; they are 0, 1, 2 and so on")
    names = dict(enumerate(c["name"] for c in classes))
    kept = [
        {
            **{key: c[key] for key in ("name", "colour", "group", "refines")},
            "left_right": None if c["left_right"] is None else names[c["left_right"]],
        }
        for c in classes
    ]
    document = {"name": entry["name"], "version": entry["version"], "family": entry["family"], "classes": kept}
    return Taxonomy.from_dict(document, "the service's taxonomy")
