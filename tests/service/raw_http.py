"""Sockets, for what no HTTP client sends."""

import json
import socket
import time


def connect(port, **options):
    return socket.create_connection(("127.0.0.1", port), timeout=options.get("timeout", 30))


def request(method="GET", path="/livez", *headers, body=b"", length=True):
    """The bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    if body and length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def read_to_end(connection):
    """All bytes until the server closes; what came before a reset counts."""
    data = b""
    try:
        while chunk := connection.recv(65536):
            data += chunk
    except ConnectionResetError:
        pass
    return data


class Reader:
    """Reads one answer after another from a connection."""

    def __init__(self, connection):
        self.connection = connection
        self.data = b""

    def _more(self):
        chunk = self.connection.recv(65536)
        if not chunk:
            raise EOFError(f"closed after {self.data!r}")
        self.data += chunk

    def answer(self):
        """(status, headers by lower-case name, body) of the next answer; interim ones have no body."""
        while b"\r\n\r\n" not in self.data:
            self._more()
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        status = int(first.split()[1])
        length = 0 if status < 200 else int(headers["content-length"])
        while len(self.data) < length:
            self._more()
        body, self.data = self.data[:length], self.data[length:]
        return status, headers, body

    def closed(self):
        """Whether the server closes, with nothing more to read."""
        try:
            return self.data == b"" and self.connection.recv(1) == b""
        except ConnectionResetError:
            return True


def problem_in(data):
    """The status and the problem in a raw answer."""
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower(), data
    problem = json.loads(body)
    assert head.startswith(b"HTTP/1.1 %d " % problem["status"])
    return problem


def seconds_until_closed(connection):
    began = time.monotonic()
    read_to_end(connection)
    return time.monotonic() - began
