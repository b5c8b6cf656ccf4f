"""A server under test as a process: pinned, started, watched and stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from servers import Place, Server

START_SECONDS_MAX = 10.0
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A server or a load tool did not do its part; the text says how."""


@dataclass
class Usage:
    """CPU time used so far, in seconds."""

    user: float
    system: float

    def since(self, before: Usage) -> Usage:
        return Usage(self.user - before.user, self.system - before.system)

    @property
    def total(self) -> float:
        return self.user + self.system


class Running:
    def __init__(self, server: Server, place: Place, cpus: str) -> None:
        self.server = server
        self.place = place
        self.log = place.folder / f"{server.name}.log"
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(
                ["taskset", "-c", cpus, *server.command(place)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"RUST_LOG": "warn"},
            )
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        until = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < until:
            if self.child.poll() is not None:
                raise Failed(f"ended with {self.child.returncode} at its start: {self.last_words()}")
            try:
                socket.create_connection(("127.0.0.1", self.place.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        self.stop()
        raise Failed(f"does not listen after {START_SECONDS_MAX:.0f} s: {self.last_words()}")

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return " / ".join(lines[-3:]) or "it said nothing"

    def pids(self) -> list[int]:
        """The process and its children: nginx serves from workers."""
        found, pending = [], [self.child.pid]
        while pending:
            pid = pending.pop()
            found.append(pid)
            try:
                pending += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
            except OSError:
                pass
        return found

    def usage(self) -> Usage:
        """The total is what the scheduler counted, in nanoseconds; ticks only share it out."""
        user = system = scheduled = 0.0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            user += int(fields[11]) / TICKS_PER_SECOND
            system += int(fields[12]) / TICKS_PER_SECOND
            for thread in Path(f"/proc/{pid}/task").iterdir():
                try:
                    scheduled += int((thread / "schedstat").read_text().split()[0]) / 1e9
                except OSError:
                    pass  # the thread has just ended
        if user + system == 0:
            return Usage(0.0, scheduled)
        return Usage(scheduled * user / (user + system), scheduled * system / (user + system))

    def memory_bytes(self) -> int:
        """Resident memory that is the process's own: not what is mapped from files."""
        total = 0
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(("RssAnon:", "RssShmem:")):
                    total += int(line.split()[1]) * 1024
        return total

    def stop(self) -> None:
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(timeout=3)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
