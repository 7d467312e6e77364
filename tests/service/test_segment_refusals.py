"""POST /segment: every refusal, with its message."""

import socket

import pytest
from PIL import ImageFile
from service_asserts import assert_problem, mask_in
from service_corpus import animation, encode, jpeg, mask_of, pixel_bomb, png, scene, webp

HTML = b"<!doctype html><html><body>404</body></html>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://127.0.0.1:9/x.png"/></svg>'


def post(client, data, **options):
    return client.post("/segment", content=data, **options)


def form(client, files, **options):
    return client.post("/segment", files=files, **options)


def raw_form(client, body, content_type="multipart/form-data; boundary=b"):
    return post(client, body, headers={"Content-Type": content_type})


def exchange(port, request, finish=False):
    """Send bytes over a bare connection and read until the server closes it, or a first answer is whole."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        if finish:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
            head, _, body = answer.partition(b"\r\n\r\n")
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            if length and len(body) >= int(length[0].split(b":")[1]):
                break
        return answer


# What is sent is no image


def test_empty_body(client):
    assert_problem(post(client, b""), 422, "invalid-upload", "empty (0 bytes)", "send an image")


def test_zero_byte_file(client):
    response = form(client, {"file": ("a.jpg", b"", "image/jpeg")})
    assert_problem(response, 422, "invalid-upload", "'file' is empty (0 bytes)")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (HTML, "it is an HTML page"),
        (SVG, "it is an SVG drawing"),
        (b"PK\x03\x04" + bytes(100), "it is a ZIP archive"),
        (encode(scene(), "GIF"), "image: it is a GIF image; convert it to one of these"),
        (b"\x00", "it begins with the bytes 00, which"),
        (b"photo.jpg", "it begins with the bytes 70 68 6f 74 6f 2e 6a 70, which"),
    ],
)
def test_not_an_image_whatever_its_name(client, data, found):
    fragments = ("not a JPEG, PNG or WebP image", found, "convert it")
    assert_problem(form(client, {"file": ("a.jpg", data, "image/jpeg")}), 415, "unsupported-image", *fragments)
    assert_problem(post(client, data, headers={"Content-Type": "image/svg+xml"}), 415, "unsupported-image", *fragments)


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PPM"])
def test_other_image_formats(client, kind):
    assert_problem(post(client, encode(scene(), kind)), 415, "unsupported-image", "not a JPEG, PNG or WebP image")


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animation(client, kind):
    response = post(client, animation(kind))
    assert_problem(response, 415, "unsupported-image", "animation of 3 frames", "send one still image")


@pytest.mark.parametrize("tenths", range(1, 10))
@pytest.mark.parametrize("make", [jpeg, png, webp])
def test_truncated_image(client, make, tenths):
    data = make(scene(60, 80))
    response = post(client, data[: len(data) * tenths // 10])
    problem = assert_problem(response, 422, "corrupt-image")
    assert "truncated" in problem["detail"] or "damaged" in problem["detail"]


def test_damaged_image(client):
    data = bytearray(png(scene(60, 80)))
    data[len(data) // 2] ^= 0xFF
    assert_problem(post(client, bytes(data)), 422, "corrupt-image", "damaged")


# What is sent is too large


@pytest.mark.parametrize("side", [5000, 30000])
def test_pixel_bomb_is_refused_before_it_is_decoded(client, side, monkeypatch):
    def load(self):
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    bomb = pixel_bomb(side)
    assert len(bomb) < 200_000
    assert_problem(post(client, bomb), 413, "image-too-large", "pixels")


def test_body_too_large_by_content_length(client):
    assert_problem(post(client, bytes(2_000_001)), 413, "body-too-large", "2000001 bytes", "at most 2000000")
    # The connection stays usable.
    assert mask_in(post(client, png())).shape == (24, 40)


def test_body_too_large_without_content_length(client):
    chunks = (bytes(100_000) for _ in range(60))
    response = client.post("/segment", content=chunks)
    assert response.request.headers["transfer-encoding"] == "chunked"
    assert_problem(response, 413, "body-too-large", "goes on", "at most 2000000")
    assert mask_in(post(client, png())).shape == (24, 40)


def test_large_form_is_refused_too(client):
    response = form(client, {"file": ("a.jpg", bytes(3_000_000), "image/jpeg")})
    assert_problem(response, 413, "body-too-large")


def test_body_at_the_bound_is_read(client):
    data = png() + bytes(2_000_000)
    assert mask_in(post(client, data[:2_000_000])).shape == (24, 40)


def test_declared_length_alone_is_enough_for_a_refusal(service):
    answer = exchange(service.port, b"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"99999999999 bytes" in answer


# What is sent has a wrong length


def test_content_length_shorter_than_the_body(service):
    data = png(scene(60, 80))
    head = f"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data) // 2}\r\n\r\n".encode()
    answer = exchange(service.port, head + data)
    assert answer.startswith(b"HTTP/1.1 422 ")
    assert b"corrupt-image" in answer


def test_content_length_longer_than_the_body(service):
    head = b"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
    assert exchange(service.port, head + png(), finish=True) == b""  # there is nobody left to answer
    assert mask_in(post(service.client, png())).shape == (24, 40)


@pytest.mark.parametrize("length", [b"-1", b"abc", b"1e3"])
def test_content_length_that_is_no_number(service, length):
    head = b"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + length + b"\r\n\r\n"
    assert exchange(service.port, head + png()).startswith(b"HTTP/1.1 400 ")


# The form is wrong


def test_field_named_otherwise(client):
    response = form(client, {"image": ("a.png", png(), "image/png")})
    assert_problem(response, 422, "invalid-upload", "no field 'file'", "'image'", "-F file=@")


def test_form_without_fields(client):
    assert_problem(raw_form(client, b"--b--\r\n"), 422, "invalid-upload", "no field 'file'", "no fields")


def test_two_files(client):
    files = [("file", ("a.png", png(), "image/png")), ("file", ("b.png", png(), "image/png"))]
    assert_problem(form(client, files), 422, "invalid-upload", "2 fields 'file'", "one image a request")


def test_field_beside_the_file(client):
    response = form(client, {"file": ("a.png", png(), "image/png")}, data={"orientation": "stored"})
    assert_problem(response, 422, "invalid-upload", "'orientation' beside 'file'", "query string")


def test_very_many_fields(client):
    response = form(client, [(f"f{i}", (None, b"x")) for i in range(100)])
    assert_problem(response, 422, "invalid-upload", "the form has 100 fields; send one image")


def test_text_in_place_of_a_file(client):
    response = form(client, {"file": (None, b"photo.jpg")})
    assert_problem(response, 422, "invalid-upload", "'file' holds text, not a file", "'@'")


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data;"]
)
def test_no_boundary(client, content_type):
    assert_problem(raw_form(client, b"x", content_type), 422, "invalid-upload", "without a boundary", "HTTP client")


def test_boundary_too_long(client):
    response = raw_form(client, b"x", f"multipart/form-data; boundary={'b' * 300}")
    assert_problem(response, 422, "invalid-upload", "300 characters", "at most 70")


@pytest.mark.parametrize(
    "body",
    [
        b"garbage",
        b"--other\r\n\r\n",
        b"--b\r\nno colon\r\n\r\nx\r\n--b--\r\n",
        b"--b\r\n: empty name\r\n\r\nx\r\n--b--\r\n",
        b"\r\n" * 500 + b"x",
    ],
)
def test_malformed_form(client, body):
    assert_problem(raw_form(client, body), 422, "invalid-upload", "multipart body")


def test_form_cut_off(client):
    whole = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + png() + b"\r\n--b--\r\n"
    assert (mask_in(raw_form(client, whole)) == mask_of(scene())).all()
    for length in (60, 200, len(whole) - 9):
        response = raw_form(client, whole[:length])
        assert_problem(response, 422, "invalid-upload", "ends before its closing boundary")


def test_part_without_a_name(client):
    body = b"--b\r\nContent-Type: image/png\r\n\r\n" + png() + b"\r\n--b--\r\n"
    assert_problem(raw_form(client, body), 422, "invalid-upload", "no field 'file'")


# The headers or the query are wrong


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/json", "application/x-www-form-urlencoded", "multipart/mixed", "nonsense"],
)
def test_unsupported_content_type(client, content_type):
    response = post(client, png(), headers={"Content-Type": content_type})
    assert_problem(response, 415, "unsupported-content-type", f"'{content_type}'", "--data-binary", "-F file=@")
    assert "multipart/form-data" in response.headers["Accept"]


def test_compressed_body(client):
    response = post(client, png(), headers={"Content-Encoding": "gzip"})
    assert_problem(response, 415, "unsupported-content-type", "Content-Encoding is 'gzip'", "as it is")


@pytest.mark.parametrize("accept", ["text/html", "image/webp", "*/*;q=0", "application/xml, text/*", "nonsense"])
def test_nothing_acceptable(client, accept):
    response = post(client, png(), headers={"Accept": accept})
    assert_problem(response, 406, "not-acceptable", f"'{accept}'", "image/png or application/json")
    assert response.headers["Vary"] == "Accept"


def test_wrong_orientation(client):
    response = post(client, png(), params={"orientation": "sideways"})
    problem = assert_problem(response, 422, "invalid-parameter", "orientation is 'sideways'", "'displayed' or 'stored'")
    assert [error["parameter"] for error in problem["errors"]] == ["orientation"]


NUMBERS = {"opacity": {"render": "overlay"}, "tolerance_px": {"geometry": "polygons"}, "min_confidence": {}}


@pytest.mark.parametrize(
    "value", ["nan", "NaN", "inf", "-inf", "-0.01", "1000", "", "abc", "0,5", "50%", "0x1", "1e999"]
)
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_out_of_range(client, name, value):
    response = post(client, png(), params={**NUMBERS[name], name: value})
    bounds = "0 to 100" if name == "tolerance_px" else "0 to 1"
    detail = f"query parameter {name} is '{value}'; use a number from {bounds}"
    problem = assert_problem(response, 422, "invalid-parameter", detail)
    assert problem["detail"] == detail
    assert [error["parameter"] for error in problem["errors"]] == [name]


@pytest.mark.parametrize("name", ["render", "geometry", "confidence", "orientation"])
@pytest.mark.parametrize("value", ["", " ", "TRUE", "True", "1", "yes", "RLE", "Overlay", "mask,overlay", "null"])
def test_words_that_are_none_of_the_choices(client, name, value):
    problem = assert_problem(
        post(client, png(), params={name: value}), 422, "invalid-parameter", f"{name} is '{value}'"
    )
    assert f"{name} is '{value}'; use " in problem["detail"]
    assert "alue error" not in problem["detail"] and "nput should" not in problem["detail"]


@pytest.mark.parametrize(
    ("classes", "fragment"),
    [
        ("class_9", "there is no class 'class_9'"),
        ("class_1,road", "there is no class 'road'"),
        ("Class_1", "there is no class 'Class_1'"),
        ("5", "there is no class '5'"),
        ("-1", "there is no class '-1'"),
        ("01", "there is no class '01'"),
        ("1.0", "there is no class '1.0'"),
        ("255", "there is no class '255'"),
        ("", "a class between the commas is missing"),
        (",", "a class between the commas is missing"),
        ("1,,2", "a class between the commas is missing"),
        ("1;2", "there is no class '1;2'"),
        ("x" * 5000, "there is no class 'xxx"),
        ("\x00", "there is no class"),
    ],
)
def test_unknown_classes_are_told_the_known_ones(client, classes, fragment):
    response = post(client, png(), params={"classes": classes})
    known = "0 class_0, 1 class_1, 2 class_2, 3 class_3, 4 class_4"
    problem = assert_problem(response, 422, "invalid-parameter", "query parameter classes is", fragment, known)
    assert len(problem["detail"]) < 600


@pytest.mark.parametrize(
    ("params", "named", "fix"),
    [
        ({"tolerance_px": "2"}, "tolerance_px is '2'", "add"),
        ({"tolerance_px": "2", "geometry": "rle"}, "tolerance_px is '2'", "geometry=polygons"),
        ({"opacity": "0.5"}, "opacity is '0.5'", "render=overlay"),
        ({"opacity": "0.5", "render": "mask"}, "opacity is '0.5'", "render=overlay"),
        ({"render": "overlay", "geometry": "rle"}, "geometry is 'rle'", "without render=overlay"),
        ({"render": "overlay", "confidence": "true"}, "confidence is 'true'", "without render=overlay"),
    ],
)
def test_parameters_without_effect_beside_the_others(client, params, named, fix):
    assert_problem(post(client, png(), params=params), 422, "invalid-parameter", named, fix)


def test_each_fault_is_told_at_once(client):
    params = {"opacity": "2", "min_confidence": "nan", "geometry": "points", "colour": "red"}
    problem = assert_problem(post(client, png(), params=params), 422, "invalid-parameter")
    assert {error["parameter"] for error in problem["errors"]} == set(params)


def test_faults_of_every_kind_are_told_in_one_answer(client):
    """Repeated, out of range, unknown, an unknown class, and without effect: nothing is left for a second round."""
    params = {
        "orientation": ["stored", "stored"],
        "opacity": "2",
        "tolerance_px": "3",
        "clases": "1",
        "classes": "road",
        "confidence": "yes",
    }
    problem = assert_problem(post(client, png(), params=params), 422, "invalid-parameter")
    details = {}
    for error in problem["errors"]:
        details.setdefault(error["parameter"], []).append(error["detail"])
    assert {name: len(said) for name, said in details.items()} == {**dict.fromkeys(params, 1), "opacity": 2}
    assert details["clases"] == ["there is no query parameter 'clases'; did you mean 'classes'?"]
    assert details["confidence"] == ["query parameter confidence is 'yes'; use true or false"]
    assert details["opacity"][0] == "query parameter opacity is '2'; use a number from 0 to 1"
    assert details["opacity"][1].endswith("no effect without render=overlay; add it")
    assert problem["detail"] == "; ".join(error["detail"] for error in problem["errors"])


def test_of_what_depends_on_a_wrong_parameter_nothing_is_said(client):
    params = {"render": "overly", "opacity": "0.5", "geometry": "polygon", "tolerance_px": "1"}
    problem = assert_problem(post(client, png(), params=params), 422, "invalid-parameter")
    assert [error["parameter"] for error in problem["errors"]] == ["render", "geometry"]


def test_thousands_of_unknown_parameters_are_not_all_told(client):
    query = "&".join(f"x{i}" for i in range(5000))
    problem = assert_problem(client.post(f"/segment?opacity=9&{query}", content=png()), 422, "invalid-parameter")
    assert len(problem["errors"]) <= 32
    assert problem["errors"][0]["parameter"] == "opacity"


@pytest.mark.parametrize("name", ["classes", "min_confidence", "render", "opacity", "geometry", "confidence"])
def test_any_parameter_that_is_repeated(client, name):
    response = post(client, png(), params={name: ["1", "1"]})
    assert_problem(response, 422, "invalid-parameter", f"'{name}' is given 2 times; give it once")


def test_unknown_query_parameter(client):
    response = post(client, png(), params={"orientaton": "stored"})
    assert_problem(response, 422, "invalid-parameter", "no query parameter 'orientaton'; did you mean 'orientation'?")


@pytest.mark.parametrize("values", [["stored", "displayed"], ["stored", "stored"], ["stored", "", "stored"]])
def test_repeated_query_parameter(client, values):
    response = post(client, png(), params={"orientation": values})
    detail = f"query parameter 'orientation' is given {len(values)} times; give it once"
    problem = assert_problem(response, 422, "invalid-parameter", detail)
    assert problem["errors"] == [{"parameter": "orientation", "detail": detail}]


def test_repeated_unknown_query_parameter_is_unknown(client):
    response = post(client, png(), params={"x": ["1", "2"]})
    known = "known: orientation, render, opacity, geometry, tolerance_px, classes, min_confidence, confidence"
    problem = assert_problem(response, 422, "invalid-parameter", f"no query parameter 'x'; {known}")
    assert len(problem["errors"]) == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_other_methods(client, method):
    response = client.request(method, "/segment")
    assert response.headers["Allow"] == "POST"
    assert response.status_code == 405
    if method != "HEAD":
        assert_problem(response, 405, None, f"does not take {method}", "use POST")


@pytest.mark.parametrize("path", ["/segment/", "/segmnt", "/..%2fetc/passwd"])
def test_unknown_path(client, path):
    assert_problem(client.post(path, content=png()), 404, None, "nothing at", "/openapi.json")
