"""Where the time of a row goes, as a flame graph of the `bench` example."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from load import SAMPLES_PER_SECOND, Generator
from process import Failed, Running, free_port
from rows import ROWS, Row
from servers import BENCH, ROOT, Place, all_servers

TOOLS = {
    "perf": "Debian package linux-perf, as root",
    "wrk": "Debian package wrk",
    "taskset": "Debian package util-linux",
    "inferno-collapse-perf": "cargo install inferno",
    "inferno-flamegraph": "cargo install inferno",
}
FOLDER = ROOT / "target" / "flamegraph"
OURS = {server.name: server for server in all_servers() if server.kind == "ours"}
#: Those that wrk drives.
CLOSED = {row.name: row for row in ROWS if row.kind == "closed"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/flamegraph", description=__doc__)
    parser.add_argument("row", nargs="?", choices=CLOSED, default="plaintext-64")
    parser.add_argument("server", nargs="?", choices=OURS, default="gimmal")
    parser.add_argument("--seconds", type=int, default=5)
    args = parser.parse_args()
    missing = [f"{tool} ({package})" for tool, package in TOOLS.items() if not shutil.which(tool)]
    if missing:
        sys.exit(f"missing: {', '.join(missing)}")
    print("building")
    # With frame pointers a stack is walked without copying it, so that perf hardly slows the server.
    environment = os.environ | {"RUSTFLAGS": "-C force-frame-pointers=yes"}
    cargo = ["cargo", "build", "-q", "--release", "--locked", "--target-dir", str(FOLDER), *BENCH]
    subprocess.run(cargo, cwd=ROOT, env=environment, check=True)
    try:
        print(record(CLOSED[args.row], args.server, args.seconds))
    except Failed as error:
        sys.exit(f"{args.server}: {error}")


def record(row: Row, name: str, seconds: int) -> Path:
    program = FOLDER / "release" / "examples" / "bench"
    server = replace(OURS[name], command=lambda place: [str(program), *OURS[name].command(place)[1:]])
    picture = FOLDER / f"{row.name}-{name}.svg"
    with tempfile.TemporaryDirectory() as folder:
        generator = Generator("1", 1, Path(folder))
        samples = str(generator.folder / "perf.data")
        with Running(server, Place(free_port(), 1, generator.folder), "0") as running:
            print(f"{row.title}: {seconds} s")
            generator.wrk(running, row, 1)
            pids = ",".join(map(str, running.pids()))
            perf = ("perf", "record", "-q", "-e", "cpu-clock", "-F", str(SAMPLES_PER_SECOND), "--call-graph", "fp")
            generator.wrk(running, row, seconds, (*perf, "-o", samples, "-p", pids, "--"))
        stacks = piped(["perf", "script", "-i", samples])
    folded = piped(["inferno-collapse-perf"], stacks)
    title = f"{row.title}: {name}, one core"
    picture.write_bytes(piped(["inferno-flamegraph", "--minwidth", "0.3", "--title", title], folded))
    return picture


def piped(command: list[str], data: bytes = b"") -> bytes:
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
