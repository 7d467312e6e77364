"""Uploads that must be refused, by row of the table in docs/decoding.md."""

import struct

import numpy as np
from hand_made import (
    adam7,
    behind_start,
    chunk,
    exif_of,
    form,
    frame_at,
    part,
    patched,
    png_of,
    png_rows,
    riff,
    segment,
    with_chunks,
)
from service_corpus import animation, encode, jpeg, pixel_bomb, png, webp
from upload_case import BOUNDARY, PHOTO, Upload


def too_large():
    row = "More pixels than max_pixels, or a side longer than max_side_px"
    for side in (9000, 20000):
        said = (f"{side}x{side} = {side * side} pixels", "at most 1000000")
        yield Upload(row, f"bomb-of-{side * side // 1_000_000}-Mpx", pixel_bomb(side), 413, said)
    for height, width in ((1, 20_000), (20_000, 1)):
        said = (f"{width}x{height}", "at most 16383 pixels are accepted along a side")
        yield Upload(row, f"{width}x{height}", png(np.zeros((height, width), np.uint8)), 413, said)
    plain = jpeg(PHOTO)
    huge = patched(plain, frame_at(plain) + 5, b"\xff\xff\xff\xff")
    yield Upload(row, "jpeg-header-65535x65535", huge, 413, ("65535x65535 = 4294836225 pixels",))
    lossless = webp(PHOTO, lossless=True)
    yield Upload(row, "webp-header-16384x16384", patched(lossless, 21, b"\xff\xff\xff\x0f"), 413, ("16384x16384",))
    yield Upload(row, "png-header-2147483647", png_of(2**31 - 1, 2**31 - 1, 8, 2, b""), 413, ("2147483647x",))


def animations():
    row = "An animation, even of one frame"
    yield Upload(row, "animated-png", animation("PNG"), 415, ("animation of 3 frames", "one still image"))
    yield Upload(row, "animated-webp", animation("WEBP"), 415, ("animation of 3 frames", "one still image"))
    single = with_chunks(png(PHOTO), chunk(b"acTL", struct.pack(">II", 1, 0)))
    yield Upload(row, "animated-png-of-one-frame", single, 415, ("animation of 1 frame;",))
    frame = webp(PHOTO)[12:]
    anim = riff((b"VP8X", b"\2\0\0\0\x37\0\0\x27\0\0"), (b"ANIM", bytes(6)), (b"ANMF", bytes(16) + frame))
    yield Upload(row, "animated-webp-of-one-frame", anim, 415, ("animation of 1 frame;",))


def other_formats():
    row = "Another format, whatever the name or the Content-Type says"
    files = {
        "GIF": (encode(PHOTO, "GIF"), "a GIF image"),
        "BMP": (encode(PHOTO, "BMP"), "a BMP image"),
        "TIFF": (encode(PHOTO, "TIFF"), "a TIFF image"),
        "AVIF": (b"\0\0\0\x20ftypavif" + bytes(40), "an AVIF image"),
        "HEIC": (b"\0\0\0\x18ftypheic" + bytes(40), "an HEIF image"),
        "JPEG-2000": (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
        "PDF": (b"%PDF-1.7\n%\xe2\xe3", "a PDF document"),
        "SVG": (b'<?xml version="1.0"?>\n<!-- x -->\n<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        "SVG-plain": (b'<svg><image href="file:///etc/passwd"/></svg>', "an SVG drawing"),
        "HTML": (b"\n<!DOCTYPE html><title>404</title>", "an HTML page"),
        "ZIP": (b"PK\x03\x04" + bytes(60), "a ZIP archive"),
        "gzip": (b"\x1f\x8b\x08" + bytes(60), "gzip-compressed"),
        "video": (b"\0\0\0\x18ftypmp42" + bytes(60), "a video (MP4)"),
        "URL": (b"https://example.org/a.jpg", "a URL, and none is ever fetched"),
        "data-URL": (b"data:image/png;base64,iVBORw0KGgo=", "a data URL"),
        "sound": (b"RIFF\x24\0\0\0WAVEfmt ", ""),
        "one-byte": (b"\xff", ""),
    }
    for name, (data, kind) in files.items():
        said = ("not a JPEG, PNG or WebP image", kind or f"the bytes {data[:8].hex(' ')}, which are of no known kind")
        yield Upload(row, name, data, 415, said, content_type="image/jpeg")


def odd_jpegs():
    row = "A JPEG or PNG of a kind that is not decoded"
    plain = jpeg(PHOTO)
    at = frame_at(plain)
    yield Upload(row, "12-bit", patched(plain, at + 4, b"\x0c"), 415, ("12 bits a channel",))
    for marker, kind in ((0xC3, "lossless"), (0xC6, "hierarchical"), (0xC9, "arithmetic-coded")):
        yield Upload(row, kind, patched(plain, at + 1, bytes([marker])), 415, (f"is a {kind} JPEG",))
    two = b"\xff\xd8" + segment(0xC0, b"\x08\0\x10\0\x10\x02\1\x11\0\2\x11\0") + b"\xff\xda"
    yield Upload(row, "two-channels", two, 415, ("2 channels",))
    progressive = jpeg(PHOTO, progressive=True)
    scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    many = progressive[:-2] + scan * 200 + b"\xff\xd9"
    yield Upload(row, "200-scans", many, 415, ("more than 100 scans",))
    yield Upload(row, "png-unknown-critical", with_chunks(png(PHOTO), chunk(b"CgBI", bytes(4))), 415, ("CgBI",))
    yield Upload(row, "countless-chunks", with_chunks(png(PHOTO), chunk(b"teSt") * 70_000), 415, ("65536",))
    yield Upload(row, "countless-segments", behind_start(plain, *[segment(0xFE, b"")] * 5000), 415, ("4096",))


def truncated():
    row = "A file that ends before its image does"
    noise = np.random.default_rng(3).integers(0, 256, (40, 56, 3), np.uint8)
    files = {"jpeg": jpeg(PHOTO), "progressive": jpeg(PHOTO, progressive=True), "png": png(noise)}
    files |= {
        "webp": webp(PHOTO),
        "webp-lossless": webp(PHOTO, lossless=True),
        "restarts": jpeg(noise, restart_marker_blocks=3),
    }
    for kind, data in files.items():
        for tenth in range(1, 10):
            yield Upload(row, f"{kind}-{tenth}-tenths", data[: len(data) * tenth // 10], 422)
        yield Upload(row, f"{kind}-but-one-byte", data[:-1], 422, ("truncated",))
    yield Upload(row, "png-without-its-end", png(noise)[:-12], 422, ("truncated",))
    yield Upload(row, "jpeg-without-its-end", jpeg(PHOTO)[:-2], 422, ("truncated",))
    yield Upload(row, "jpeg-of-two-halves", jpeg(noise)[:2000] + jpeg(noise), 422, ("truncated",))
    row = "A JPEG whose one scan ends too early, though its end marker is there"
    yield Upload(row, "jpeg-closed-early", jpeg(noise)[:2000] + b"\xff\xd9", 422, ("truncated",))
    grey = jpeg(noise[..., 0])
    yield Upload(row, "grey-jpeg-closed-early", grey[: len(grey) * 3 // 4] + b"\xff\xd9", 422, ("truncated",))
    taller = patched(jpeg(PHOTO), frame_at(jpeg(PHOTO)) + 5, struct.pack(">H", 900))
    yield Upload(row, "jpeg-said-to-be-taller", taller, 422, ("truncated", "56x900"))
    restarts = jpeg(noise, restart_marker_blocks=1)
    cut = [i for i in range(len(restarts) - 1) if restarts[i] == 0xFF and 0xD0 <= restarts[i + 1] <= 0xD7][5]
    yield Upload(row, "intervals-missing", restarts[:cut] + b"\xff\xd9", 422, ("restart markers",))


def damaged():
    row = "A PNG whose checksums are wrong"
    data = png(PHOTO)
    for name in (b"IHDR", b"IDAT", b"IEND"):
        at = data.index(name)
        end = at + 4 + int.from_bytes(data[at - 4 : at], "big")
        wrong = patched(data, end, bytes([data[end] ^ 1]))
        yield Upload(row, f"checksum-of-{name.decode()}", wrong, 422, (f"checksum of its {name.decode()} chunk",))
    yield Upload(row, "checksum-of-text", with_chunks(data, chunk(b"tEXt", b"a\0b", 7)), 422, ("tEXt chunk",))
    row = "A header or structure that contradicts itself"
    yield Upload(row, "png-of-width-0", png_of(0, 9, 8, 2, b""), 422, ("0x9 pixels",))
    yield Upload(row, "png-of-3-bits", png_of(9, 9, 3, 2, b""), 422, ("3 bits, colour type 2",))
    rows = png_rows(PHOTO.reshape(40, -1))
    yield Upload(row, "png-too-few-rows", png_of(56, 40, 8, 2, rows[: 169 * 39]), 422, ("PNG data end",))
    yield Upload(row, "png-a-byte-short", png_of(56, 40, 8, 2, rows[:-1]), 422, ("truncated",))
    passes = adam7(PHOTO)
    for left in (-1, -57 * 3 + 2, 500):
        cut = png_of(56, 40, 8, 2, passes[:left], interlace=1)
        yield Upload(row, f"png-interlaced-short-by-{left}", cut, 422, ("truncated",))
    yield Upload(row, "png-two-headers", with_chunks(data, data[8:33]), 422, ("one IHDR",))
    yield Upload(row, "png-without-palette", png_of(8, 8, 8, 3, bytes(72)), 422, ("0 palettes",))
    yield Upload(row, "png-without-pixels", data[:33] + chunk(b"IEND"), 422, ("IDAT",))
    long = data[:33] + struct.pack(">I", 2**31 - 1) + b"tEXt" + data[33:]
    yield Upload(row, "png-text-of-2-GB", long, 422, ("truncated", "PNG chunk"))
    yield Upload(row, "png-garbage-between-chunks", data[:33] + bytes(12) + data[33:], 422, ("is called",))
    plain = jpeg(PHOTO)
    at = frame_at(plain)
    size = 2 + int.from_bytes(plain[at + 2 : at + 4], "big")
    yield Upload(
        row, "jpeg-two-frames", plain[:at] + plain[at : at + size] * 2 + plain[at + size :], 422, ("two frame",)
    )
    yield Upload(row, "jpeg-of-height-0", patched(plain, at + 5, b"\0\0"), 422, ("x0 pixels",))
    yield Upload(row, "jpeg-scan-before-frame", plain[:at] + plain[at + size :], 422, ("before its frame header",))
    yield Upload(row, "jpeg-segment-too-long", patched(plain, at + 2, b"\xff\xff"), 422, ("65535 bytes",))
    yield Upload(row, "jpeg-nothing-but-markers", b"\xff\xd8\xff\xd9", 422, ("before its pixels",))
    odd = riff((b"VP8X", b"\0\0\0\0\x05\0\0\x05\0\0"), (b"VP8 ", webp(PHOTO)[20:]))
    yield Upload(row, "webp-sizes-disagree", odd, 422, ("56x40 pixels",))
    yield Upload(row, "webp-two-pictures", riff(*[(b"VP8 ", webp(PHOTO)[20:])] * 2), 422, ("this one 2",))
    yield Upload(row, "webp-no-picture", riff((b"EXIF", exif_of(6))), 422, ("this one 0",))


def bodies():
    row = "An empty body or file"
    yield Upload(row, "empty-body", b"", 422, ("empty (0 bytes)",))
    yield Upload(row, "empty-file", form(part(b"")), 422, ("'file' is empty",), content_type=BOUNDARY)
    row = "A form that holds no image, more than one, or anything beside it"
    image = part(png(PHOTO))
    other = part(b"x", disposition=b'form-data; name="mode"')
    bad = {
        "two-fields": (form(image, image), "2 fields 'file'"),
        "no-field": (form(), "no fields"),
        "another-field": (form(image, other), "'mode' beside 'file'"),
        "other-name": (form(part(png(PHOTO), disposition=b'form-data; name="img"; filename="a"')), "no field 'file'"),
        "nameless": (form(part(png(PHOTO), disposition=b"form-data")), "no field 'file'"),
        "text": (form(part(b"a.jpg", disposition=b'form-data; name="file"')), "holds text"),
    }
    for name, (body, said) in bad.items():
        yield Upload(row, f"form-{name}", body, 422, (said,), content_type=BOUNDARY)
    row = "A form that is malformed"
    bad = {
        "cut": (form(image)[:-8], "closing boundary"),
        "base64": (form(part(b"iVBO", b"Content-Transfer-Encoding: base64")), "Content-Transfer-Encoding 'base64'"),
        "10000-headers": (form(part(png(PHOTO), *[b"X-%d: y" % i for i in range(10_000)])), "malformed"),
        "header-of-1-MB": (form(part(png(PHOTO), b"X: " + b"y" * 1_000_000)), "malformed"),
        "header-name-of-1-MB": (form(part(png(PHOTO), b"y" * 1_000_000 + b": x")), "malformed"),
        "two-dispositions": (form(part(png(PHOTO), b"content-disposition: form-data")), "two headers"),
        "preamble": (form(image, before=b"This is a multi-part message.\r\n"), "malformed"),
        "boundary-in-data": (form(part(png(PHOTO)[:99] + b"\r\n--b\r\n" + png(PHOTO)[99:])), "malformed"),
    }
    for name, (body, said) in bad.items():
        yield Upload(row, f"form-{name}", body, 422, (said,), content_type=BOUNDARY)
    yield Upload(row, "form-no-boundary", form(image), 422, ("without a boundary",), content_type="multipart/form-data")


REFUSED = [
    upload
    for group in (too_large, animations, other_formats, odd_jpegs, truncated, damaged, bodies)
    for upload in group()
]
