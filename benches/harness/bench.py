"""The run: rounds over rows over servers, and what becomes of the figures."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import load
import report
import servers
from check import check
from load import Generator
from process import Failed, Running, free_port
from rows import ROWS, Row
from servers import ROOT, Place, Server

OPEN_FILES = 20_000


@dataclass
class Plan:
    servers: list[Server]
    rows: list[Row]
    rounds: int
    seconds: int
    warm_up_seconds: int
    cores: int
    server_cpus: str
    load_cpus: str
    folder: Path

    def runs(self) -> list[tuple[int, Row, Server]]:
        """Every server has its turn in every row before any has its next; who is first changes."""
        runs = []
        for turn in range(self.rounds):
            order = self.servers[turn % len(self.servers) :] + self.servers[: turn % len(self.servers)]
            for row in self.rows:
                runs += [(turn, row, server) for server in order if answers(server, row)]
        return runs


@dataclass
class Results:
    #: Row, server, figure: the value of each round.
    rounds: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    #: Row, server: why there is no figure.
    skipped: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, row: str, server: str, figures: dict[str, float]) -> None:
        kept = self.rounds.setdefault(row, {}).setdefault(server, {})
        for name, value in figures.items():
            kept.setdefault(name, []).append(value)

    def skip(self, row: Row, server: Server, reason: str) -> None:
        self.skipped.setdefault(row.name, {})[server.name] = reason

    def is_skipped(self, row: Row, server: Server) -> bool:
        return server.name in self.skipped.get(row.name, {})

    def summary(self) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
        return {
            row: {server: summarise(figures) for server, figures in by_server.items()}
            for row, by_server in self.rounds.items()
        }


def summarise(rounds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    figures = {
        name: {"median": statistics.median(values), "min": min(values), "max": max(values)}
        for name, values in rounds.items()
    }
    share = figures.get("user_share_sampled") or figures.get("user_share")
    if share:
        cpu_us = figures["cpu_us"]["median"]
        figures["user_us"] = {"median": cpu_us * share["median"]}
        figures["system_us"] = {"median": cpu_us * (1 - share["median"])}
    return figures


def answers(server: Server, row: Row) -> bool:
    return not server.missing and any(fnmatch(row.name, pattern) for pattern in server.rows)


class Progress:
    def __init__(self, runs: int) -> None:
        self.runs = runs
        self.done = 0
        self.start = time.monotonic()

    def begin(self, turn: int, row: Row, server: Server) -> None:
        left = ""
        if self.done:
            seconds = (time.monotonic() - self.start) / self.done * (self.runs - self.done)
            left = f"{seconds // 60:.0f}:{seconds % 60:02.0f} left"
        self.done += 1
        head = f"[{self.done}/{self.runs}] round {turn + 1}"
        print(f"{head:22} {row.name:15} {server.name:13} {left:12}", end=" ", flush=True)

    @staticmethod
    def say(text: str) -> None:
        print(text, flush=True)


def measure(plan: Plan) -> Results:
    results = Results()
    generator = Generator(plan.load_cpus, len(cpu_list(plan.load_cpus)), plan.folder)
    runs = plan.runs()
    progress = Progress(len(runs))
    cannot_profile = load.cannot_profile()
    for turn, row, server in runs:
        progress.begin(turn, row, server)
        if results.is_skipped(row, server):
            progress.say("skipped")
            continue
        try:
            place = Place(free_port(), plan.cores, plan.folder)
            with Running(server, place, plan.server_cpus) as running:
                check(running, row)
                is_profiled = turn == plan.rounds - 1 and not cannot_profile
                measure_row(running, row, generator, plan, results, is_profiled, progress.say)
        except Failed as error:
            results.skip(row, server, str(error))
            progress.say(f"SKIPPED: {error}")
    return results


def measure_row(
    running: Running,
    row: Row,
    generator: Generator,
    plan: Plan,
    results: Results,
    is_profiled: bool,
    say: Callable[[str], None],
) -> None:
    name = running.server.name
    if row.kind == "idle":
        results.add(row.name, name, load.idle(running, row, say))
        return
    if row.kind == "open":
        generator.oha(running, row, plan.warm_up_seconds, None)
        by_row = load.open_loop(running, row, generator, plan.seconds)
        for open_row, figures in by_row.items():
            results.add(open_row, name, figures)
        say(", ".join(f"{open_row} p99 {figures['p99_us']:,.0f} us" for open_row, figures in by_row.items()))
        return
    seconds = max(plan.seconds, row.seconds_min)
    generator.wrk(running, row, max(plan.warm_up_seconds, row.seconds_min))
    figures = load.closed_loop(running, row, generator, seconds)
    if is_profiled:
        figures |= load.profile(running, row, generator, max(seconds / 2, row.seconds_min, 1))
    results.add(row.name, name, figures)
    errors = f", {figures['errors']:.0f} ERRORS" if figures["errors"] else ""
    say(f"{figures['requests_per_second']:>10,.0f}/s  {figures['cpu_us']:9.2f} us CPU{errors}")


def cpu_list(text: str) -> list[int]:
    cpus = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus


def machine() -> dict[str, str]:
    def first(path: str, key: str) -> str:
        for line in Path(path).read_text().splitlines():
            if line.startswith(key):
                return line.partition(":")[2].strip()
        return "unknown"

    def version(*command: str, environment: dict[str, str] | None = None) -> str:
        if not shutil.which(command[0]):
            return "missing"
        result = subprocess.run(command, capture_output=True, text=True, env=os.environ | (environment or {}))
        lines = (result.stdout or result.stderr).strip().splitlines()
        return lines[0] if lines else "unknown"

    return {
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "processor": f"{first('/proc/cpuinfo', 'model name')}, {os.cpu_count()} CPUs",
        "memory": f"{int(first('/proc/meminfo', 'MemTotal').split()[0]) / 2**20:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "congestion control": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        "hypervisor": "yes" if " hypervisor" in Path("/proc/cpuinfo").read_text() else "no",
        "compiler": version("rustc", "--version", environment=servers.toolchain()),
        "wrk": version("wrk", "-v"),
        "oha": version("oha", "--version"),
        "load average before": " ".join(Path("/proc/loadavg").read_text().split()[:3]),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=sys.modules["__main__"].__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round: for a look, not for figures to quote")
    parser.add_argument("--rows", default="*", help="rows to measure: names or patterns, with commas between")
    parser.add_argument(
        "--peers", default="*", help="peers to measure beside Gimmal and the floor: names or patterns, or 'none'"
    )
    parser.add_argument("--rounds", type=int, help="rounds, each over all rows and servers (5; 1 if quick)")
    parser.add_argument("--seconds", type=int, help="length of one measurement, in whole seconds (4; 1 if quick)")
    parser.add_argument("--server-cpus", help="CPUs of the server, as taskset takes them (the first)")
    parser.add_argument("--load-cpus", help="CPUs of the load generator (all others)")
    parser.add_argument("--no-build", action="store_true", help="measure what was built before")
    parser.add_argument("--output", type=Path, default=ROOT / "target" / "bench", help="folder for the results")
    parser.add_argument("--list", action="store_true", help="name the rows and servers, and measure nothing")
    parser.add_argument("--report", type=Path, metavar="JSON", help="only write the report of an earlier run again")
    return parser.parse_args()


def chosen(names: str, name: str) -> bool:
    return any(fnmatch(name, pattern.strip()) for pattern in names.split(","))


def make_plan(args: argparse.Namespace) -> Plan:
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2 and not (args.server_cpus and args.load_cpus):
        sys.exit("Two CPUs are needed: one for the server, one for the load generator.")
    server_cpus = args.server_cpus or str(allowed[0])
    load_cpus = args.load_cpus or ",".join(str(cpu) for cpu in allowed if cpu not in cpu_list(server_cpus))
    rows = [row for row in ROWS if chosen(args.rows, row.name)]
    measured = [
        server
        for server in servers.all_servers()
        if server.kind in ("ours", "floor") or chosen(args.peers, server.name)
    ]
    if not rows:
        sys.exit(f"No such row: {args.rows}. There are {', '.join(row.name for row in ROWS)}.")
    return Plan(
        servers=measured,
        rows=rows,
        rounds=args.rounds or (1 if args.quick else 5),
        seconds=args.seconds or (1 if args.quick else 4),
        warm_up_seconds=1,
        cores=len(cpu_list(server_cpus)),
        server_cpus=server_cpus,
        load_cpus=load_cpus,
        folder=args.output,
    )


def require_tools() -> None:
    missing = [f"{tool} ({package})" for tool, package in load.TOOLS.items() if not shutil.which(tool)]
    if missing:
        sys.exit(f"Load tools are missing: {', '.join(missing)}.")


def allow_open_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, hard), hard))


def main() -> None:
    args = arguments()
    if args.report:
        report.write(json.loads(args.report.read_text()), args.report.with_suffix(".html"))
        return
    plan = make_plan(args)
    if args.list:
        print("rows:   ", *(row.name for row in plan.rows))
        print("servers:", *(server.name for server in plan.servers))
        return
    require_tools()
    allow_open_files()
    plan.folder.mkdir(parents=True, exist_ok=True)
    plan.folder = plan.folder.resolve()
    if not args.no_build:
        servers.build(plan.servers, print)
    servers.find_versions(plan.servers)
    for server in plan.servers:
        if server.missing:
            print(f"skipping {server.name}: {server.missing}")
    about = machine()
    results = measure(plan)
    document = describe(plan, about, results)
    path = plan.folder / "results.json"
    path.write_text(json.dumps(document, indent=1))
    print(f"figures: {path}")
    report.write(document, plan.folder / "results.html")


def describe(plan: Plan, about: dict[str, str], results: Results) -> dict[str, object]:
    """All that the report says, in the form in which it is kept."""
    rows = {row.name: row.title for row in plan.rows if row.kind != "open"}
    for row in plan.rows:
        for share in row.shares_of_peak:
            rows[f"open-{share * 100:.0f}"] = f"{row.title}: {share:.0%} of each server's own peak"
    return {
        "machine": about,
        "method": {
            "rounds": plan.rounds,
            "seconds": plan.seconds,
            "warm_up_seconds": plan.warm_up_seconds,
            "server_cpus": plan.server_cpus,
            "load_cpus": plan.load_cpus,
            "profile": load.cannot_profile() or "perf",
        },
        "rows": rows,
        "servers": [
            {
                "name": server.name,
                "kind": server.kind,
                "version": server.version,
                "missing": server.missing,
                "notes": server.notes,
            }
            for server in plan.servers
        ],
        "results": results.summary(),
        "skipped": results.skipped,
    }
