"""HTTP client rows: CPU of the client for a request, of Gimmal's client beside hyper-util's with rustls."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import rounds
import servers
from process import Failed, Running, free_port
from servers import PEERS, ROOT, Place, Server
from tls import make_certificate

RESULT = re.compile(r"(\d+) requests, (\d+) bytes, ([\d.]+) s of CPU")


@dataclass(frozen=True)
class Row:
    name: str
    unit: str
    scheme: str
    path: str
    concurrency: int


ROWS = [
    Row("GET of 13 bytes, 64 at a time", "us of CPU", "http", "/plaintext", 64),
    Row("the same over TLS", "us of CPU", "https", "/plaintext", 64),
    Row("over TLS, one at a time", "us of CPU", "https", "/plaintext", 1),
    Row("64 KiB, 64 at a time", "us of CPU", "http", "/bytes/65536", 64),
    Row("64 KiB over TLS, 64 at a time", "us of CPU", "https", "/bytes/65536", 64),
    Row("1 MB over TLS, 16 at a time", "us of CPU", "https", "/bytes/1000000", 16),
]


@dataclass(frozen=True)
class Client:
    name: str
    command: tuple[str, ...]


OWN = str(ROOT / "target" / "release" / "client_load")
CLIENTS = [
    Client("gimmal", (OWN, "--backend", "uring")),
    Client("gimmal-epoll", (OWN, "--backend", "epoll")),
    Client("hyper-util", (str(PEERS / "target" / "release" / "peer-hyper-client"),)),
]


def server(scheme: str, certificate: Path, key: Path) -> Server:
    """The same for all, and none of ours."""
    path = PEERS / "target" / "release" / "peer-hyper"
    os.environ.pop("TLS_CERTIFICATE", None)
    if scheme == "https":
        os.environ |= {"TLS_CERTIFICATE": str(certificate), "TLS_KEY": str(key)}
    return Server(
        f"hyper-{scheme}", "framework", lambda place: [str(path), "--addr", place.address, "--cores", "1"]
    )


def measure(running: Running, row: Row, client: Client, roots: Path, seconds: float, cpu: str) -> float:
    url = f"{row.scheme}://localhost:{running.place.port}{row.path}"
    command = ["taskset", "-c", cpu, *client.command, url, "--roots", str(roots)]
    command += ["--concurrency", str(row.concurrency), "--seconds", str(seconds)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = RESULT.search(output)
    if not found or int(found[1]) == 0:
        raise Failed(f"the client says nothing of use: {output[-300:]}")
    return float(found[3]) / int(found[1]) * 1e6


def main() -> None:
    args = rounds.parser("bench-client", __doc__).parse_args()
    load = ("-p", "gimmal-benches", "--bin", "client_load")
    rounds.build(args, [load], ["peer-hyper", "peer-hyper-client"])
    rows = rounds.chosen(ROWS, args.rows)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certificate, key = make_certificate(folder)

        def one(row: Row, client: Client) -> float:
            made = server(row.scheme, certificate, key)
            # What is measured is the client: it gets the CPU that the server has elsewhere.
            with Running(made, Place(free_port(), 1, folder), args.load_cpus) as running:
                return measure(running, row, client, certificate, args.seconds, args.server_cpu)

        figures = rounds.measure(rows, CLIENTS, args.rounds, one)
    rounds.print_table(rows, CLIENTS, figures, "hyper-util")
