"""The rows: what is asked of every server, and by which tool."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    path: str
    body_bytes: int = 0
    close: bool = False

    @property
    def method(self) -> str:
        return "POST" if self.body_bytes else "GET"


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    connections: int
    requests: tuple[Request, ...] = ()  # asked in turn
    pipeline: int = 1
    kind: str = "closed"  # "closed" loop, "open" loop or "idle" connections
    shares_of_peak: tuple[float, ...] = ()
    seconds_min: float = 0.0  # for answers that take long


PLAINTEXT = Request("/plaintext")
CLOSE = Request("/plaintext", close=True)
ECHO = Request("/echo", body_bytes=1024)

ROWS = [
    Row("plaintext-1", "Plaintext, keep-alive, 1 connection", 1, (PLAINTEXT,)),
    Row("plaintext-64", "Plaintext, keep-alive, 64 connections", 64, (PLAINTEXT,)),
    Row("plaintext-512", "Plaintext, keep-alive, 512 connections", 512, (PLAINTEXT,)),
    Row("plaintext-4096", "Plaintext, keep-alive, 4,096 connections", 4096, (PLAINTEXT,)),
    Row("pipelined-16", "Plaintext, pipelined by 16, 64 connections", 64, (PLAINTEXT,), pipeline=16),
    Row("close-1", "Plaintext, closed after each request, 64 connections", 64, (CLOSE,)),
    Row("close-10", "Plaintext, every tenth request closes, 64 connections", 64, (PLAINTEXT,) * 9 + (CLOSE,)),
    Row("json", "JSON, 64 connections", 64, (Request("/json"),)),
    Row("parameter", "Path parameter out of 30 routes, 64 connections", 64, (Request("/users/12345"),)),
    Row("echo-1k", "POST echo of 1 KiB, 64 connections", 64, (ECHO,)),
    Row("echo-64k", "POST echo of 64 KiB, 64 connections", 64, (Request("/echo", body_bytes=65536),)),
    Row("upload-20m", "Upload of 20 MB, 4 connections", 4, (Request("/upload", body_bytes=20_000_000),), seconds_min=2.0),
    Row("download-1m", "Download of 1 MB, 16 connections", 16, (Request("/bytes/1000000"),)),
    Row("download-100m", "Download of 100 MB, 2 connections", 2, (Request("/bytes/100000000"),), seconds_min=3.0),
    Row(
        "mix",
        "A mix: plaintext, JSON, parameter, echo of 1 KiB, 4 KiB of bytes, 64 connections",
        64,
        (PLAINTEXT, Request("/json"), Request("/users/12345"), ECHO, Request("/bytes/4096")),
    ),
    Row(
        "open-loop",
        "Plaintext at a fixed rate, 64 connections, latency corrected for coordinated omission",
        64,
        (PLAINTEXT,),
        kind="open",
        shares_of_peak=(0.5, 0.8),
    ),
    Row("idle-10000", "Idle: 10,000 connections that have had one answer", 10_000, (PLAINTEXT,), kind="idle"),
]


def lua(row: Row) -> str:
    """The row as a wrk script, which also says the result in a form that can be read back."""
    return "\n".join([*ask(row), *DONE]) + "\n"


def ask(row: Row) -> list[str]:
    if len(row.requests) == 1 and row.pipeline == 1:
        # wrk formats it once and never calls Lua again.
        request = row.requests[0]
        lines = [f'wrk.method, wrk.path = "{request.method}", "{request.path}"']
        if request.close:
            lines.append('wrk.headers["Connection"] = "close"')
        if request.body_bytes:
            lines.append(f'wrk.body = string.rep("x", {request.body_bytes})')
        return lines
    lines = ["local built, turn = {}, 0", "init = function()"]
    for request in row.requests:
        headers = '{["Connection"] = "close"}' if request.close else "{}"
        body = f'string.rep("x", {request.body_bytes})' if request.body_bytes else "nil"
        one = f'wrk.format("{request.method}", "{request.path}", {headers}, {body})'
        lines.append(f"  built[#built + 1] = string.rep({one}, {row.pipeline})")
    return [*lines, "end", "request = function()", "  turn = turn % #built + 1", "  return built[turn]", "end"]


DONE = [
    "done = function(summary, latency)",
    "  local errors = summary.errors",
    "  io.write(string.format(",
    '    "RESULT %d %d %d %d %d %d %d %d\\n", summary.requests, summary.duration, summary.bytes,',
    "    errors.connect + errors.read + errors.write + errors.timeout + errors.status,",
    "    latency:percentile(50), latency:percentile(99), latency:percentile(99.9), latency.max))",
    "end",
]
