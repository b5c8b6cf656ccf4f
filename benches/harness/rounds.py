"""Rows that are measured in rounds, every server beside the others, and the table of their medians."""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import servers
from process import Failed, Running


@dataclass(frozen=True)
class Row:
    name: str
    unit: str
    #: Arguments of the load program.
    arguments: tuple[str, ...]


#: Row, server: the value of each round.
Figures = dict[tuple[str, str], list[float]]


def parser(script: str, about: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog=f"scripts/{script}", description=about)
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--seconds", type=float, default=2.0)
    made.add_argument("--rows", default="", help="only rows whose names have this in them")
    made.add_argument("--no-build", action="store_true", help="measure what was built before")
    made.add_argument("--server-cpu", default="0")
    made.add_argument("--load-cpus", default="1")
    return made


def build(args: argparse.Namespace, own: Sequence[tuple[str, ...]], peers: Sequence[str] = ()) -> None:
    if args.no_build:
        return
    print("building what is measured", file=sys.stderr)
    servers.build_own(*own)
    if peers and servers.build_peers(*peers) != 0:
        raise SystemExit("a peer does not build")


def chosen(rows: Sequence[Any], part: str) -> list[Any]:
    return [row for row in rows if part in row.name]


def measure(
    rows: Sequence[Any], servers: Sequence[Any], rounds: int, one: Callable[[Any, Any], float]
) -> Figures:
    """Each begins as often as the others, so that none has the quiet minutes to itself."""
    figures: Figures = {}
    for turn in range(rounds):
        start = turn % len(servers)
        for row in rows:
            for server in [*servers[start:], *servers[:start]]:
                try:
                    figures.setdefault((row.name, server.name), []).append(one(row, server))
                except (Failed, subprocess.CalledProcessError) as error:
                    print(f"{row.name}: {server.name}: {error}", file=sys.stderr)
    return figures


def print_table(rows: Sequence[Any], servers: Sequence[Any], figures: Figures, base: str) -> None:
    """Medians, in brackets the ratio to `base`."""
    names = [server.name for server in servers]
    print("| |", " | ".join(names), "|")
    print("| --- |", " | ".join("---:" for _ in names), "|")
    for row in rows:
        medians = {name: statistics.median(figures.get((row.name, name)) or [float("nan")]) for name in names}
        digits = 1 if medians[base] >= 10 else 2
        cells = [f"{medians[name]:,.{digits}f} ({medians[name] / medians[base]:.2f})" for name in names]
        print(f"| {row.name}, {row.unit} |", " | ".join(cells), "|")


def count(output: str, pattern: str) -> int:
    found = re.search(pattern, output)
    if not found:
        raise Failed(f"the load says nothing of use: {output[-300:]}")
    return int(found[1])


def idle_bytes(running: Running, load: list[str], connections: int, few: int) -> float:
    """Memory of the server for each of the connections that `load` holds until its input ends."""

    def hold(number: int) -> float:
        command = [*load, "--connections", str(number)]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = child.stdout.readline()
        held = running.memory_bytes()
        child.communicate("")
        count(line, r"(\d+) connections, 0 wrong")
        return held

    # What is made for the first connections and kept is no part of what each costs.
    before = hold(few)
    return (hold(connections) - before) / (connections - few)
