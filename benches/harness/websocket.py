"""WebSocket rows: messages that are sent back, and idle connections, of Gimmal beside tokio-tungstenite and fastwebsockets."""

from __future__ import annotations

import resource
import subprocess
import tempfile
from pathlib import Path

import rounds
import servers
from process import Failed, Running, free_port
from rounds import Row
from servers import PEERS, ROOT, Place, Server

LOAD = ROOT / "target" / "release" / "websocket_load"
OPEN_FILES = 20_000
IDLE_CONNECTIONS = 10_000


ROWS = [
    Row("message of 32 B, 64 connections", "us of CPU", ("load", "--bytes", "32")),
    Row("message of 32 B, 16 at a time", "us of CPU", ("load", "--bytes", "32", "--pipeline", "16")),
    Row("message of 1 KiB, 64 connections", "us of CPU", ("load", "--bytes", "1024")),
    Row("message of 64 KiB, 64 connections", "us of CPU", ("load", "--bytes", "65536")),
    Row("idle connection, 10,000 of them", "bytes", ("idle",)),
]


def all_servers() -> list[Server]:
    ours = [server for server in servers.all_servers() if server.kind == "ours"]

    def peer(name: str) -> Server:
        path = PEERS / "target" / "release" / f"peer-{name}"
        return Server(
            name, "framework", lambda place: [str(path), "--addr", place.address, "--cores", str(place.cores)]
        )

    return [*ours, peer("tungstenite"), peer("fastwebsockets")]


def measure(running: Running, row: Row, seconds: float, load_cpus: str) -> float:
    load = ["taskset", "-c", load_cpus, str(LOAD), running.place.address, *row.arguments]
    if row.arguments[0] == "idle":
        return rounds.idle_bytes(running, load, IDLE_CONNECTIONS, 200)
    before = running.usage()
    command = [*load, "--seconds", str(seconds)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    messages = rounds.count(output, r"(\d+) messages, 0 wrong")
    if messages == 0:
        raise Failed("no message came back")
    return running.usage().since(before).total / messages * 1e6


def main() -> None:
    args = rounds.parser("bench-websocket", __doc__).parse_args()
    load = ("-p", "gimmal-benches", "--bin", "websocket_load")
    rounds.build(args, [servers.BENCH, load], ["peer-tungstenite", "peer-fastwebsockets"])
    rows = rounds.chosen(ROWS, args.rows)
    measured = all_servers()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, hard), hard))
    with tempfile.TemporaryDirectory() as name:

        def one(row: Row, server: Server) -> float:
            with Running(server, Place(free_port(), 1, Path(name)), args.server_cpu) as running:
                return measure(running, row, args.seconds, args.load_cpus)

        figures = rounds.measure(rows, measured, args.rounds, one)
    rounds.print_table(rows, measured, figures, "tungstenite")
