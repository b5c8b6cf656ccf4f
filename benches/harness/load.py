"""The load generators, and what they measure."""

from __future__ import annotations

import json
import math
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import rows
from process import Failed, Running, Usage
from rows import Row

#: Tools, by the package that brings them.
TOOLS = {
    "wrk": "Debian package wrk",
    "oha": "cargo install oha",
    "taskset": "Debian package util-linux",
}


@dataclass
class Load:
    """What a generator saw."""

    requests: int
    seconds: float
    errors: int
    p50_us: float
    p99_us: float
    p999_us: float
    max_us: float
    busy: float = 0.0  # of its CPUs, while it ran
    received: int = 0  # bytes, those of answers that were cut off at the end among them


@dataclass
class Generator:
    cpus: str
    threads: int
    folder: Path

    def run(self, tool: list[str], prefix: tuple[str, ...] = ()) -> tuple[str, str, float]:
        """What the tool said, and how busy its CPUs were."""
        before, start = used_by_children(), time.monotonic()
        result = subprocess.run(
            ["taskset", "-c", self.cpus, *prefix, *tool], capture_output=True, text=True
        )
        busy = (used_by_children() - before) / (time.monotonic() - start) / self.threads
        if result.returncode != 0:
            raise Failed(f"{tool[0]}: {(result.stderr or result.stdout).strip()[-300:]}")
        return result.stdout, result.stderr, busy

    def wrk(
        self, running: Running, row: Row, seconds: float, prefix: tuple[str, ...] = (), tls: bool = False
    ) -> tuple[Load, str]:
        script = self.folder / f"{row.name}.lua"
        script.write_text(rows.lua(row))
        threads = min(self.threads, row.connections)
        out, err, busy = self.run(
            [
                "wrk", f"-t{threads}", f"-c{row.connections}", f"-d{math.ceil(seconds)}s", "--timeout", "20s",
                "-s", str(script), f"{'https' if tls else 'http'}://{running.place.address}",
            ],
            prefix,
        )
        line = next((line for line in out.splitlines() if line.startswith("RESULT ")), None)
        if line is None:
            raise Failed(f"wrk did not say its result: {out.strip()[-300:]}")
        requests, microseconds, received, errors, *latencies = map(int, line.split()[1:])
        if requests == 0:
            raise Failed("no request was answered")
        return Load(requests, microseconds / 1e6, errors, *map(float, latencies), busy, received), err

    def oha(self, running: Running, row: Row, seconds: float, rate: float | None) -> Load:
        limit = ["-q", str(max(1, round(rate))), "--latency-correction"] if rate else []
        out, _, busy = self.run(
            [
                "oha", "--no-tui", "--output-format", "json", "-z", f"{seconds * 1000:.0f}ms", "-w",
                "-c", str(row.connections), "--worker-threads", str(self.threads), *limit,
                f"http://{running.place.address}{row.requests[0].path}",
            ]
        )
        result = json.loads(out)
        summary, percentiles = result["summary"], result["latencyPercentiles"]
        answered = result["statusCodeDistribution"].get("200", 0)
        if answered == 0:
            raise Failed("no request was answered")
        return Load(
            answered,
            summary["total"],
            sum(result["errorDistribution"].values()),
            *(1e6 * (value or 0) for value in (percentiles["p50"], percentiles["p99"], percentiles["p99.9"])),
            1e6 * summary["slowest"],
            busy,
        )


def used_by_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def figures(load: Load, usage: Usage, cores: int, memory_bytes: int) -> dict[str, float]:
    return {
        "requests_per_second": load.requests / load.seconds,
        "cpu_us": 1e6 * usage.total / load.requests,
        "user_share": usage.user / max(usage.total, 1e-9),
        "server_busy": usage.total / load.seconds / cores,
        "generator_busy": load.busy,
        "memory_bytes": memory_bytes,
        **{key: value for key, value in asdict(load).items() if key.endswith("_us") or key == "errors"},
    }


def closed_loop(running: Running, row: Row, generator: Generator, seconds: float) -> dict[str, float]:
    before = running.usage()
    load, _ = generator.wrk(running, row, seconds)
    return figures(load, running.usage().since(before), running.place.cores, running.memory_bytes())


def open_loop(running: Running, row: Row, generator: Generator, seconds: float) -> dict[str, dict[str, float]]:
    """The peak that this generator can drive the server to, then fixed shares of it."""
    peak = generator.oha(running, row, seconds, None)
    peak_rate = peak.requests / peak.seconds
    results = {}
    for share in row.shares_of_peak:
        before = running.usage()
        load = generator.oha(running, row, seconds, share * peak_rate)
        result = figures(load, running.usage().since(before), running.place.cores, running.memory_bytes())
        results[f"open-{share * 100:.0f}"] = result | {"peak_per_second": peak_rate, "asked_per_second": share * peak_rate}
    return results


REQUEST = b"GET /plaintext HTTP/1.1\r\nHost: localhost\r\n\r\n"
WARM_CONNECTIONS = 200


def idle(running: Running, row: Row, say: Callable[[str], None]) -> dict[str, float]:
    """Memory of the process for each connection that waits for its next request."""
    clients: list[socket.socket] = []

    def open_to(count: int) -> None:
        while len(clients) < count:
            client = socket.create_connection(("127.0.0.1", running.place.port), timeout=10)
            client.sendall(REQUEST)
            if not client.recv(4096).endswith(b"Hello, World!"):
                raise Failed("an idle connection was not answered whole")
            clients.append(client)

    try:
        open_to(WARM_CONNECTIONS)
        time.sleep(0.2)
        before = running.memory_bytes()
        open_to(row.connections)
        time.sleep(1.0)
        after = running.memory_bytes()
        clients[0].sendall(REQUEST)
        if not clients[0].recv(4096):
            raise Failed("the oldest idle connection was closed")
    except OSError as error:
        raise Failed(f"{len(clients)} idle connections: {error}") from error
    finally:
        for client in clients:
            client.close()
    say(f"{(after - before) / (row.connections - WARM_CONNECTIONS):.0f} bytes a connection")
    return {
        "bytes_per_connection": (after - before) / (row.connections - WARM_CONNECTIONS),
        "memory_bytes": after,
    }


SYSTEM_CALLS = ("raw_syscalls:sys_enter", "syscalls:sys_enter_io_uring_enter")
SAMPLES_PER_SECOND = 4000
KERNEL_ADDRESSES = 1 << 63


def cannot_profile() -> str:
    """Why system calls and user time cannot be looked at closely, or nothing."""
    if not shutil.which("perf"):
        return "perf is missing (Debian package linux-perf)"
    command = ["perf", "stat", "-x,", "-e", ",".join(SYSTEM_CALLS), "true"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0 or "<not" in result.stderr:
        return "perf may not count tracepoints here (run as root, with tracefs mounted)"
    return ""


def profile(running: Running, row: Row, generator: Generator, seconds: float) -> dict[str, float]:
    """Runs of their own, since perf slows the server."""
    return system_calls(running, row, generator, seconds) | user_share(running, row, generator, seconds)


def system_calls(running: Running, row: Row, generator: Generator, seconds: float) -> dict[str, float]:
    pids = ",".join(map(str, running.pids()))
    prefix = ("perf", "stat", "-x,", "-e", ",".join(SYSTEM_CALLS), "-p", pids, "--")
    load, counted = generator.wrk(running, row, seconds, prefix)
    counts = {}
    for line in counted.splitlines():
        fields = line.split(",")
        if len(fields) > 2 and fields[2] in SYSTEM_CALLS and fields[0].isdigit():
            counts[fields[2]] = int(fields[0])
    if len(counts) != len(SYSTEM_CALLS):
        return {}
    every, enters = (counts[name] / load.requests for name in SYSTEM_CALLS)
    return {"system_calls": every, "ring_enters": enters}


def user_share(running: Running, row: Row, generator: Generator, seconds: float) -> dict[str, float]:
    """The share of samples that lie in user space: far finer than the kernel's ticks."""
    pids = ",".join(map(str, running.pids()))
    samples = generator.folder / "perf.data"
    record = ("perf", "record", "-q", "-e", "cpu-clock", "-F", str(SAMPLES_PER_SECOND), "-o", str(samples))
    generator.wrk(running, row, seconds, (*record, "-p", pids, "--"))
    listed = subprocess.run(["perf", "script", "-F", "ip", "-i", str(samples)], capture_output=True, text=True)
    samples.unlink(missing_ok=True)
    addresses = [int(line, 16) for line in listed.stdout.split()]
    if not addresses:
        return {}
    return {"user_share_sampled": sum(address < KERNEL_ADDRESSES for address in addresses) / len(addresses)}
