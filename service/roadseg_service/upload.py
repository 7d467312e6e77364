"""Reading an upload: the body of a request, and the image in it."""

from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import Request

from roadseg.errors import CorruptImageError, ImageError, ImageTooLargeError, UnsupportedImageError
from roadseg.images import DecodedImage, Orientation, decode_inspected, inspect_image
from roadseg_service.form import FIELD, FormContent, file_in_form
from roadseg_service.problems import (
    CORRUPT_IMAGE,
    IMAGE_TOO_LARGE,
    INVALID_UPLOAD,
    UNSUPPORTED_CONTENT_TYPE,
    UNSUPPORTED_IMAGE,
    ProblemError,
)
from roadseg_service.scheduling.admission import Ticket
from roadseg_service.settings import BYTES_PER_PIXEL

FORM = "multipart/form-data"
RAW = "application/octet-stream"

_NAME = "the uploaded image"

_KIND_OF = {
    UnsupportedImageError: UNSUPPORTED_IMAGE,
    ImageTooLargeError: IMAGE_TOO_LARGE,
    CorruptImageError: CORRUPT_IMAGE,
}


@dataclass(frozen=True)
class UploadFormat:
    """How the image lies in the body: as a field of a form, or raw.

    Attributes:
        form: what the Content-Type says of the form, or None for a raw body.
    """

    form: FormContent | None

    @classmethod
    def of(cls, headers: Headers) -> "UploadFormat":
        """Tell the format by the headers, before the body is read.

        A raw image's own type is not looked at: its bytes tell what it is.

        Raises:
            ProblemError: unsupported-content-type, or invalid-upload when a form names no boundary.
        """
        coding = headers.get("content-encoding", "identity").strip().lower()
        if coding not in {"", "identity"}:
            raise _unsupported(f"Content-Encoding is '{coding}', which is not supported; send the image file as it is")
        content_type = headers.get("content-type", "")
        kind = content_type.partition(";")[0].strip().lower()
        if kind == FORM:
            return cls(FormContent.of(content_type))
        if kind in {"", RAW} or kind.startswith("image/"):
            return cls(None)
        raise _unsupported(
            f"Content-Type is '{kind}'; send a form ({FORM}) with the image in field '{FIELD}', or the image itself as "
            f"image/jpeg, image/png, image/webp or {RAW}. With curl: -F {FIELD}=@photo.jpg, or "
            "-H 'Content-Type: image/jpeg' --data-binary @photo.jpg"
        )

    def decode(
        self, body: bytes, ticket: Ticket, orientation: Orientation, max_pixels: int, max_side_px: int
    ) -> DecodedImage:
        """Decode the image in a body; for a worker thread.

        Args:
            body: the request's.
            ticket: what the decoded image takes is counted here before it is decoded.
            orientation: which raster to give.
            max_pixels: largest width x height.
            max_side_px: longest side.

        Raises:
            ProblemError: invalid-upload, unsupported-image, image-too-large or corrupt-image; queue-full, where memory
                is short.
        """
        data = self._image_in(body)
        try:
            encoded = inspect_image(data, name=_NAME)
            encoded.refuse_large(max_pixels, max_side_px, _NAME)
            # Settings leave room for one image of so many bytes a pixel; a large WebP takes more for a moment.
            ticket.hold(min(encoded.decoding_bytes, BYTES_PER_PIXEL * max_pixels))
            return decode_inspected(encoded, orientation=orientation, name=_NAME)
        except ImageError as error:
            raise ProblemError(_KIND_OF.get(type(error), CORRUPT_IMAGE), str(error)) from error

    def _image_in(self, body: bytes) -> bytes:
        if not body:
            raise ProblemError(INVALID_UPLOAD, "the request body is empty (0 bytes); send an image in it")
        return body if self.form is None else file_in_form(body, self.form)


async def read_body(request: Request, ticket: Ticket) -> bytes:
    """Read the whole body, which `BodyLimit` keeps within bounds; what is here of it is counted on the ticket.

    Raises:
        ProblemError: queue-full where memory is short; upload-timeout or body-too-large from `BodyLimit`.
        ClientDisconnect: when the client goes away meanwhile.
    """
    chunks = []
    async for chunk in request.stream():
        ticket.hold(len(chunk))
        chunks.append(chunk)
    ticket.whole()
    return b"".join(chunks)


def _unsupported(detail: str) -> ProblemError:
    return ProblemError(
        UNSUPPORTED_CONTENT_TYPE, detail, {"Accept": f"{FORM}, image/jpeg, image/png, image/webp, {RAW}"}
    )
