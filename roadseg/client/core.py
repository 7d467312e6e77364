"""What a client says and understands, with no input or output of its own."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args
from urllib.parse import urlsplit

from roadseg import __version__
from roadseg.client.answers import read_result
from roadseg.client.models import MODELS_REQUEST, KnownModels, RemoteModel, digest_of, read_models
from roadseg.client.refusals import refusal
from roadseg.client.retries import Retries, Tries
from roadseg.client.uploads import Upload, make_upload
from roadseg.client.wire import Exchange, Reply, Request, Send, Wait
from roadseg.errors import ConfigError, ServiceAnswerError
from roadseg.images import Orientation
from roadseg.inference.options import InferenceOptions
from roadseg.inference.predictor import ImageSource
from roadseg.inference.result import SegmentationResult
from roadseg.taxonomy import Taxonomy


@dataclass(frozen=True)
class Ask:
    """How an image is to be segmented.

    Attributes:
        confidence: whether the confidence is wanted, too.
        orientation: which raster.
        classes: names or ids of the classes that are wanted; None wants all. Other pixels are 255.
        min_confidence: pixels below it are 255; None keeps all.

    Raises:
        ConfigError: when the orientation is neither of the two, the classes are none or no list, or the confidence is
            no share.
    """

    confidence: bool = False
    orientation: Orientation = "displayed"
    classes: Sequence[str | int] | None = None
    min_confidence: float | None = None

    def __post_init__(self) -> None:
        """Check the values, before anything is read or sent."""
        if self.orientation not in get_args(Orientation):
            raise ConfigError(f"orientation is {self.orientation!r}; use 'displayed' or 'stored'")
        if self.classes is not None and (isinstance(self.classes, str) or not self.classes):
            raise ConfigError(f"classes is {self.classes!r}; give a list of names or ids, or None for all")
        InferenceOptions(min_confidence=self.min_confidence)  # what a predictor on the spot takes

    def params(self) -> dict[str, str]:
        """The query string; what is as usual is left out."""
        params: dict[str, str] = {}
        if self.orientation != "displayed":
            params["orientation"] = self.orientation
        if self.classes is not None:
            params["classes"] = ",".join(map(str, self.classes))
        if self.min_confidence is not None:
            params["min_confidence"] = repr(float(self.min_confidence))
        if self.confidence:
            params["confidence"] = "true"
        return params


class Core:
    """The decisions of a client; threads may share one.

    Args:
        url: of the service; a path in it goes before the service's own.
        api_key: None where the service wants none.
        retries: how patient to be.

    Attributes:
        url: without a slash at its end.
        headers: of every request.

    Raises:
        ConfigError: when the URL or the key cannot be one.
    """

    def __init__(self, url: str, api_key: str | None, retries: Retries) -> None:
        self.url = _checked_url(url)
        self.headers = {"User-Agent": f"roadseg-client/{__version__}"}
        if api_key is not None:
            self.headers["Authorization"] = f"Bearer {_checked_key(api_key)}"
        self._retries = retries
        self._known = KnownModels()

    def segment(self, image: ImageSource | Upload, ask: Ask) -> Exchange[SegmentationResult]:
        """Segment an image.

        Args:
            image: as a predictor takes it, or read already.
            ask: how.
        """
        request = Request("POST", "/segment", params=ask.params())
        upload = image if isinstance(image, Upload) else make_upload(image, ask.orientation)
        accept = "application/json" if ask.confidence else "image/png"
        headers = {"Accept": accept, "Content-Type": "application/octet-stream"}
        request = replace(request, headers=headers, body=upload.body, about=upload.name)
        tries = Tries(self._retries)
        while True:
            reply = yield from self._answered(request, tries)
            taxonomy = self._known.taxonomy(reply) or (yield from self._look_up(reply, tries))
            if taxonomy is not None:
                return read_result(reply, upload, taxonomy, confidence=ask.confidence)
            if not tries.again():
                raise _unknown_model(self.url, reply, upload)

    def models(self) -> Exchange[list[RemoteModel]]:
        """The models that the service answers with now."""
        return (yield from self._models(Tries(self._retries)))

    def _models(self, tries: Tries) -> Exchange[list[RemoteModel]]:
        reply = yield from self._answered(MODELS_REQUEST, tries)
        models = read_models(reply)
        self._known.learn(models)
        return models

    def _look_up(self, reply: Reply, tries: Tries) -> Exchange[Taxonomy | None]:
        """Ask for the models anew: the one that answered is new, or the first."""
        yield from self._models(tries)
        return self._known.taxonomy(reply) or self._known.same_taxonomy(reply)

    def _answered(self, request: Request, tries: Tries) -> Exchange[Reply]:
        """The answer of status 200 to a request, which is sent again where that may help."""
        call = uuid.uuid4().hex
        number = 0
        while True:
            number += 1
            sent = replace(request, headers={**request.headers, "X-Request-ID": f"{call}-{number}"})
            outcome = yield Send(sent, tries.timeout_s)
            assert outcome is not None
            if isinstance(outcome, Reply) and outcome.status == 200:
                return outcome
            wait_s = tries.wait_s(outcome)
            if wait_s is None:
                raise refusal(self.url, sent, outcome, tries.told())
            yield Wait(wait_s)


def _checked_url(url: str) -> str:
    fix = "give it as http://HOST:PORT or https://HOST"
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        known = False
    if not known:
        raise ConfigError(f"the service's URL is {url!r}; {fix}")
    if parts.query or parts.fragment or parts.username is not None:
        raise ConfigError(f"the service's URL has more than a host and a path; {fix}, and a key as api_key")
    return url.rstrip("/")


def _checked_key(api_key: str) -> str:
    if not api_key or not all("!" <= c <= "~" for c in api_key):
        raise ConfigError("the api_key is empty, or has spaces, line ends or letters beyond ASCII; give the key alone")
    return api_key


def _unknown_model(url: str, reply: Reply, upload: Upload) -> ServiceAnswerError:
    return ServiceAnswerError(
        f"{url} answered about {upload.name} with model {digest_of(reply)[:12]}, and does not list it at /v1/models: "
        "what the class ids mean is not known; try again when its models are no longer being swapped",
        status=reply.status,
        request_id=reply.headers.get("X-Request-ID"),
    )
