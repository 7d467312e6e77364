"""Running the curl lines of the documentation without curl."""

import argparse
import shlex
from urllib.parse import urlsplit

from service_corpus import jpeg, png, scene

BASE = "http://127.0.0.1:8000"

FILES = {
    "drive.jpg": jpeg(scene(48, 64)),
    "other.png": png(scene(30, 40, seed=1)),
}
"""The files that the examples name."""


def _parser():
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("url")
    parser.add_argument("-F", dest="fields", action="append", default=[])
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("--data-binary")
    parser.add_argument("-o", dest="output")
    parser.add_argument("-X", dest="method")
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-i", action="store_true")
    return parser


def run_curl(client, line):
    """Send what a curl line sends, to the client's server instead; gives the response, and the path without query."""
    command, *words = shlex.split(line)
    assert command == "curl"
    given = _parser().parse_args(words)
    assert given.url.startswith(BASE), line
    headers = {"Accept": "*/*", **dict(header.split(": ", 1) for header in given.headers)}
    content = files = None
    if given.data_binary is not None:
        content = FILES[given.data_binary.removeprefix("@")]
    if given.fields:
        named = [field.split("=@", 1) for field in given.fields]
        files = [(field, (name, FILES[name])) for field, name in named]
    method = given.method or ("POST" if content or files else "GET")
    url = given.url.removeprefix(BASE)
    response = client.request(method, url, headers=headers, content=content, files=files)
    return response, (method.lower(), urlsplit(url).path)
