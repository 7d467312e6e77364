"""An encoded image that was looked through and not yet decoded: what the containers of the formats have in common."""

from dataclasses import dataclass

from roadseg.errors import ImageTooLargeError

MAX_PIXELS = 178_956_970
"""Largest image decoded unless the caller says otherwise (Pillow's own bound against decompression bombs)."""

MAX_SIDE_PX = 65_535
"""Longest side decoded unless the caller says otherwise: the most that a JPEG can have."""

FORMATS = ("JPEG", "PNG", "WEBP")
"""What is decoded, by Pillow's names."""


@dataclass(frozen=True)
class EncodedImage:
    """A still image whose file is whole as far as its container tells; nothing of it is decoded.

    Attributes:
        format: "JPEG", "PNG" or "WEBP".
        width: in px, as stored.
        height: in px, as stored.
        exif_orientation: the tag found in the file, 1..8; 1 where there is none or a meaningless one.
        pieces: the parts of the file that make up the picture; joined, they are a file of the same format without
            metadata, colour profile, transparency and what lies behind the image.
        scan_tail: how many of the last bytes follow the compressed pixels of a JPEG with one Huffman-coded scan; 0 for
            all others.
        raw_bytes: that the pixels of a PNG inflate to; 0 for all others.
        interlaced: whether a PNG is.
    """

    format: str
    width: int
    height: int
    exif_orientation: int
    pieces: tuple[bytes, ...]
    scan_tail: int = 0
    raw_bytes: int = 0
    interlaced: bool = False

    def refuse_large(self, max_pixels: int, max_side_px: int, name: str) -> None:
        """Hold the image to its bounds, before anything is decoded.

        Raises:
            ImageTooLargeError: with the size and the bound that it is over.
        """
        width, height = self.width, self.height
        if width * height > max_pixels:
            raise ImageTooLargeError(
                f"{name} is {width}x{height} = {width * height} pixels; at most {max_pixels} pixels are accepted"
            )
        if max(width, height) > max_side_px:
            raise ImageTooLargeError(
                f"{name} is {width}x{height}; at most {max_side_px} pixels are accepted along a side"
            )

    @property
    def decoding_bytes(self) -> int:
        """Memory that decoding it takes at most, as measured: Pillow's and libwebp's planes beside the pixels."""
        return (20 if self.format == "WEBP" else 12) * self.width * self.height

    def bare(self) -> bytes:
        """The file that is given to the decoder, so that it parses nothing but the picture."""
        return b"".join(self.pieces)
