"""Uploads that are odd and must be segmented, by row of the table in docs/decoding.md.

The pixels that an answer must rest on come from the array that was encoded, from arithmetic on it, or from OpenCV.
"""

import struct
import zlib

import cv2
import numpy as np
from hand_made import (
    adam7,
    behind_start,
    chunk,
    cmyk,
    exif_of,
    form,
    packed,
    part,
    patched,
    png_of,
    png_rows,
    riff,
    segment,
    with_chunks,
    with_exif,
)
from PIL import Image
from service_corpus import encode, jpeg, png, png16, scene, webp, with_orientation
from upload_case import BOUNDARY, GREY, PHOTO, by_opencv, taken


def kinds_of_jpeg():
    row = "JPEG: baseline or progressive, grey or colour"
    yield taken(row, "baseline", jpeg(PHOTO))
    yield taken(row, "progressive", jpeg(PHOTO, progressive=True))
    yield taken(row, "restart-markers", jpeg(PHOTO, restart_marker_blocks=2))
    yield taken(row, "grey", jpeg(GREY))
    yield taken(row, "full-chroma", jpeg(PHOTO, subsampling=0))
    rgb = patched(jpeg(PHOTO, keep_rgb=True), 0, b"\xff\xd8")
    yield taken(row, "stored-as-rgb", rgb)
    row = "JPEG: CMYK or YCCK"
    for name, transform in (("cmyk-adobe", 0), ("cmyk-without-marker", None), ("ycck", 2)):
        yield taken(row, name, cmyk(transform)[0])


def kinds_of_png():
    deep = np.random.default_rng(1).integers(0, 65536, (20, 30, 4), np.uint16)
    high, big = (deep >> 8).astype(np.uint8), deep.byteswap().view(np.uint8).reshape(20, 30, 4, 2)
    row = "PNG: 16 bits a channel"
    grey = high[..., :1].repeat(3, 2)
    yield taken(row, "16-bit-grey", png16(deep[..., 0]), grey)
    yield taken(row, "16-bit-rgb", png16(np.ascontiguousarray(deep[..., :3])), high[..., :3])
    for name, colour, channels, pixels in (("grey-alpha", 4, [0, 3], grey), ("rgba", 6, [0, 1, 2, 3], high[..., :3])):
        raw = big[:, :, channels].reshape(20, -1)
        yield taken(row, f"16-bit-{name}", png_of(30, 20, 16, colour, png_rows(raw)), pixels)
    for name, colour, channels, pixels in (("grey", 0, [0], grey), ("rgb", 2, [0, 1, 2], high[..., :3])):
        raw = big[:, :, channels].reshape(20, 30, -1)
        yield taken(row, f"16-bit-{name}-interlaced", png_of(30, 20, 16, colour, adam7(raw), interlace=1), pixels)
    row = "PNG: grey of 1, 2 or 4 bits"
    for bits in (1, 2, 4):
        values = np.random.default_rng(bits).integers(0, 2**bits, (9, 13))
        pixels = (values * (255 // (2**bits - 1))).astype(np.uint8)[..., None].repeat(3, 2)
        yield taken(row, f"grey-of-{bits}-bits", png_of(13, 9, bits, 0, png_rows(packed(values, bits))), pixels)
    row = "PNG: palette of 1, 2, 4 or 8 bits"
    for bits in (1, 2, 4, 8):
        colours = np.random.default_rng(bits).integers(0, 256, (2**bits, 3), np.uint8)
        values = np.random.default_rng(bits).integers(0, 2**bits, (9, 13))
        chunks = [chunk(b"PLTE", colours.tobytes()), chunk(b"tRNS", bytes(range(2**bits)))]
        data = png_of(13, 9, bits, 3, png_rows(packed(values, bits)), *chunks)
        yield taken(row, f"palette-of-{bits}-bits-transparent", data, colours[values])
    yield taken("PNG: RGB", "rgb", png(PHOTO), PHOTO)
    yield taken("PNG: RGB", "rgb-interlaced", png_of(56, 40, 8, 2, adam7(PHOTO), interlace=1), PHOTO)


def kinds_of_webp_and_alpha():
    yield taken("WebP: lossy or lossless", "webp-lossy", webp(PHOTO))
    yield taken("WebP: lossy or lossless", "webp-lossless", webp(PHOTO, lossless=True), PHOTO)
    row = "An alpha channel"
    alpha = GREY[..., None]
    yield taken(row, "png-rgba", png(np.concatenate([PHOTO, alpha], 2)), PHOTO)
    grey_alpha = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(PHOTO[..., 1])])
    yield taken(row, "png-grey-alpha", png(grey_alpha), GREY[..., None].repeat(3, 2))
    yield taken(row, "png-colour-key", with_chunks(png(PHOTO), chunk(b"tRNS", bytes(6))), PHOTO)
    see_through = np.concatenate([PHOTO, alpha], 2)
    lossy = webp(Image.fromarray(see_through), exact=True)
    rgb = cv2.imdecode(np.frombuffer(lossy, np.uint8), cv2.IMREAD_UNCHANGED)[..., 2::-1]
    yield taken(row, "webp-lossy-alpha", lossy, rgb)
    yield taken(row, "webp-lossless-alpha", webp(Image.fromarray(see_through), lossless=True, exact=True), PHOTO)


def orientations():
    row = "An EXIF orientation from 1 to 8"
    turned = {
        1: PHOTO, 2: PHOTO[:, ::-1], 3: PHOTO[::-1, ::-1], 4: PHOTO[::-1], 5: PHOTO.transpose(1, 0, 2),
        6: np.rot90(PHOTO, -1), 7: PHOTO[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(PHOTO),
    }  # fmt: skip
    for tag, pixels in turned.items():
        told = {"X-Roadseg-Exif-Orientation": str(tag), "X-Roadseg-Orientation": "displayed"}
        yield taken(row, f"orientation-{tag}", with_orientation("PNG", tag, PHOTO), pixels, headers=told)
    stored = {"X-Roadseg-Exif-Orientation": "6", "X-Roadseg-Orientation": "stored"}
    data = with_orientation("PNG", 6, PHOTO)
    yield taken(row, "orientation-stored", data, PHOTO, query={"orientation": "stored"}, headers=stored)
    intel = with_exif(jpeg(PHOTO), exif_of(3, order="<"))
    yield taken(row, "orientation-little-endian", intel, by_opencv(intel)[::-1, ::-1])
    row = "EXIF that is broken, or an orientation that has no meaning"
    none = {"X-Roadseg-Exif-Orientation": "1"}
    broken = {"0": exif_of(0), "9": exif_of(9), "65535": exif_of(65535), "as-text": exif_of(6, kind=2)}
    broken |= {"nothing": b"", "garbage": b"\x93" * 50, "cut": exif_of(6)[:15], "far-away": b"MM\0*\xff\xff\xff\xff"}
    broken |= {"endless": b"II*\0\x08\0\0\0\xff\xff" + bytes(40), "itself": b"II*\0\0\0\0\0"}
    for name, exif in broken.items():
        data = with_exif(jpeg(PHOTO), exif)
        yield taken(row, f"exif-{name}", data, by_opencv(jpeg(PHOTO)), headers=none)


def metadata():
    row = "Metadata and colour profiles, of whatever size"
    bomb = zlib.compress(bytes(30_000_000), 9)
    chunks = [chunk(b"zTXt", b"k\0\0" + bomb), chunk(b"iCCP", b"p\0\0" + bomb), chunk(b"iTXt", b"k\0\1\0\0\0" + bomb)]
    yield taken(row, "png-bombs-in-text-and-profile", with_chunks(png(PHOTO), *chunks), PHOTO)
    yield taken(row, "png-private-chunks", with_chunks(png(PHOTO), *[chunk(b"teSt", b"x")] * 2000), PHOTO)
    large = [segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + bytes(65000))] * 20
    plain = jpeg(PHOTO)
    yield taken(row, "jpeg-megabytes-of-xmp", behind_start(plain, *large), by_opencv(plain))
    profile = segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(500))
    yield taken(row, "jpeg-profile", behind_start(plain, profile, segment(0xFE, b"a comment")), by_opencv(plain))
    extended = riff((b"VP8X", b"\x0c\0\0\0" + struct.pack("<I", 55)[:3] + struct.pack("<I", 39)[:3]))
    lossless = webp(PHOTO, lossless=True)[12:]
    body = extended[12:] + lossless + b"EXIF" + struct.pack("<I", 1_000_000) + exif_of(1) + bytes(999_974)
    yield taken(row, "webp-large-exif", b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body, PHOTO)


def behind_the_image():
    row = "Bytes behind the image"
    film = b"\0\0\0\x18ftypmp42" + np.random.default_rng(2).bytes(200_000)
    yield taken(row, "motion-photo", jpeg(PHOTO) + film, by_opencv(jpeg(PHOTO)))
    several = encode(PHOTO, "MPO", save_all=True, append_images=[Image.fromarray(PHOTO[::-1].copy())])
    yield taken(row, "multi-picture", several)
    yield taken(row, "png-with-more", png(PHOTO) + film, PHOTO)
    yield taken(row, "webp-with-more", webp(PHOTO, lossless=True) + film, PHOTO)


def extreme_sizes():
    row = "One pixel, one row or one column"
    for height, width in ((1, 1), (1, 5000), (5000, 1)):
        yield taken(row, f"{width}x{height}", png(scene(height, width)), scene(height, width))


def odd_forms():
    image = part(png(PHOTO))
    row = "A form with a path or line end in its file name, an epilogue, or a charset"
    odd = {
        "path": form(part(png(PHOTO), disposition=b'form-data; name="file"; filename="../../etc/passwd"')),
        "line-end": form(part(png(PHOTO), disposition=b'form-data; name="file"; filename="a%0Ab\n.png"')),
        "charset": form(part(png(PHOTO), b"Content-Type: text/html; charset=utf-7")),
        "epilogue": form(image, behind=b"whatever comes after\r\n--b\r\n"),
        "blank-lines-before": form(image, before=b"\r\n\r\n"),
        "binary": form(part(png(PHOTO), b"Content-Transfer-Encoding: binary")),
    }
    for name, body in odd.items():
        yield taken(row, f"form-{name}", body, PHOTO, content_type=BOUNDARY)


TAKEN = [
    upload
    for group in (
        kinds_of_jpeg,
        kinds_of_png,
        kinds_of_webp_and_alpha,
        orientations,
        metadata,
        behind_the_image,
        extreme_sizes,
        odd_forms,
    )
    for upload in group()
]
