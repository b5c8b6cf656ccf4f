"""Answers are compared before anything is measured: a fast wrong answer is no result."""

from __future__ import annotations

import http.client
import socket

from process import Failed, Running
from rows import Request, Row

ECHOED = b"x"


def expected(request: Request) -> tuple[str, bytes]:
    """The content type, without its parameters, and the body."""
    path = request.path
    if path == "/plaintext":
        return "text/plain", b"Hello, World!"
    if path == "/json":
        return "application/json", b'{"message":"Hello, World!"}'
    if path == "/echo":
        return "application/octet-stream", ECHOED * request.body_bytes
    if path == "/upload":
        return "text/plain", str(request.body_bytes).encode()
    kind, _, value = path[1:].partition("/")
    if kind == "users":
        return "text/plain", value.encode()
    return "application/octet-stream", b"?" * int(value)  # any bytes will do


def check(running: Running, row: Row) -> None:
    for request in dict.fromkeys(row.requests):
        check_request(running, request)
    if any(request.close for request in row.requests):
        check_close(running)
    if row.pipeline > 1:
        check_pipeline(running, row.pipeline)


def check_request(running: Running, request: Request) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", running.place.port, timeout=30)
    try:
        connection.request(request.method, request.path, ECHOED * request.body_bytes if request.body_bytes else None)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise Failed(f"{request.method} {request.path}: {error!r}") from error
    finally:
        connection.close()
    where = f"{request.method} {request.path}"
    content_type, content = expected(request)
    if response.status != 200:
        raise Failed(f"{where}: status {response.status}")
    if len(body) != len(content) or (not content.startswith(b"?") and body != content):
        raise Failed(f"{where}: the body is not as expected ({len(body)} bytes)")
    if (response.headers.get_content_type()) != content_type:
        raise Failed(f"{where}: content-type {response.headers.get('content-type')}")
    if "date" not in response.headers:
        note(running, "sends no Date")
    if "content-length" not in response.headers:
        note(running, f"{request.path} without Content-Length")


def note(running: Running, text: str) -> None:
    if text not in running.server.notes:
        running.server.notes.append(text)


def check_close(running: Running) -> None:
    with socket.create_connection(("127.0.0.1", running.place.port), timeout=5) as client:
        client.sendall(b"GET /plaintext HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        try:
            while client.recv(4096):
                pass
        except TimeoutError as error:
            raise Failed("does not close a connection when it is asked to") from error


def check_pipeline(running: Running, depth: int) -> None:
    with socket.create_connection(("127.0.0.1", running.place.port), timeout=5) as client:
        client.sendall(b"GET /plaintext HTTP/1.1\r\nHost: localhost\r\n\r\n" * depth)
        received = b""
        while received.count(b"Hello, World!") < depth:
            piece = client.recv(65536)
            if not piece:
                raise Failed(f"answers {received.count(b'Hello, World!')} of {depth} pipelined requests")
            received += piece
