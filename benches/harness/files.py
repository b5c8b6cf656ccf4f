"""Static files: server CPU for one GET, of Gimmal beside nginx and h2o, by the size of the file."""

from __future__ import annotations

import argparse
import http.client
import statistics
import sys
import tempfile
import time
from pathlib import Path

import servers
from load import Generator
from process import Failed, Running, free_port
from rows import Request, Row
from servers import ROOT, Place, Server

#: Size, connections, seconds at least.
SIZES = [(1 << 10, 64, 1), (64 << 10, 64, 1), (1 << 20, 16, 1), (100 << 20, 2, 3)]


def name_of(size: int) -> str:
    return f"{size >> 20}m" if size >= 1 << 20 else f"{size >> 10}k"


def pattern(size: int) -> bytes:
    """Bytes that are different at each place, so that a piece in the wrong place shows."""
    words = b"".join(number.to_bytes(8, "little") for number in range(1 << 17))
    pieces = -(-size // len(words))
    return b"".join(number.to_bytes(8, "little") + words[8:] for number in range(pieces))[:size]


def all_servers(files: Path, tls: tuple[Path, Path] | None) -> list[Server]:
    def gimmal(backend: str) -> Server:
        own = [str(ROOT / "target" / "release" / "examples" / "bench"), "--backend", backend, "--files", str(files)]
        if tls:
            own += ["--certificate", str(tls[0]), "--key", str(tls[1])]
        name = "gimmal" if backend == "uring" else "gimmal-epoll"
        return Server(name, "ours", lambda place: [*own, "--addr", place.address, "--cores", str(place.cores)])

    def nginx(place: Place) -> list[str]:
        secret = f"ssl_certificate {tls[0]}; ssl_certificate_key {tls[1]};" if tls else ""
        path = place.folder / "nginx.conf"
        path.write_text(f"""
user root;
worker_processes {place.cores};
daemon off;
pid {place.folder}/nginx.pid;
error_log {place.folder}/nginx.log;
events {{ worker_connections 20000; multi_accept on; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    open_file_cache max=1000 inactive=1h;
    default_type application/octet-stream;
    server {{
        listen {place.address} backlog=4096 reuseport{" ssl" if tls else ""}; {secret}
        location /files/ {{ alias {files}/; }}
    }}
}}
""")
        return [servers.shutil.which("nginx", path=servers.DAEMON_PATH), "-c", str(path), "-e", f"{place.folder}/nginx.log"]

    def h2o(place: Place) -> list[str]:
        secret = f"\n  ssl:\n    certificate-file: {tls[0]}\n    key-file: {tls[1]}" if tls else ""
        path = place.folder / "h2o.conf"
        path.write_text(f"""
user: root
num-threads: {place.cores}
max-connections: 100000
http1-request-timeout: 3600
file.mime.setdefaulttype: application/octet-stream
listen:
  host: 127.0.0.1
  port: {place.port}{secret}
hosts:
  default:
    paths:
      /files:
        file.dir: {files}
""")
        return [servers.shutil.which("h2o", path=servers.DAEMON_PATH), "-c", str(path)]

    return [gimmal("uring"), gimmal("epoll"), Server("nginx", "daemon", nginx), Server("h2o", "daemon", h2o)]


def check(running: Running, size: int, tls: bool) -> None:
    """What a client gets is the file, byte for byte."""
    kind = http.client.HTTPSConnection if tls else http.client.HTTPConnection
    more = {"context": __import__("ssl")._create_unverified_context()} if tls else {}
    connection = kind("127.0.0.1", running.place.port, timeout=30, **more)
    connection.request("GET", f"/files/{name_of(size)}")
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 200 or body != pattern(size):
        raise Failed(f"{name_of(size)}: {answer.status}, {len(body)} bytes that are not the file")
    for field in ("last-modified", "etag", "content-length"):
        if field not in answer.headers:
            raise Failed(f"{name_of(size)}: no {field}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench-files", description=sys.modules["__main__"].__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--sizes", default="", help="1k, 64k, 1m, 100m, with commas between; all if not given")
    parser.add_argument("--servers", default="", help="only these, with commas between")
    parser.add_argument("--tls", action="store_true", help="over HTTPS")
    parser.add_argument("--server-cpu", default="0")
    parser.add_argument("--load-cpus", default="1")
    args = parser.parse_args()
    sizes = [row for row in SIZES if not args.sizes or name_of(row[0]) in args.sizes.split(",")]
    figures: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = folder / "files"
        files.mkdir()
        for size, *_ in sizes:
            (files / name_of(size)).write_bytes(pattern(size))
        # A file that has just been written may be held to be still changing.
        time.sleep(3)
        tls = None
        if args.tls:
            from tls import make_certificate

            tls = make_certificate(folder)
        measured = [
            server for server in all_servers(files, tls) if not args.servers or server.name in args.servers.split(",")
        ]
        generator = Generator(args.load_cpus, 1, folder)
        for turn in range(args.rounds):
            for size, connections, seconds_min in sizes:
                row = Row(name_of(size), "", connections, (Request(f"/files/{name_of(size)}"),))
                # Each begins as often as the others, so that none has the quiet minutes to itself.
                for server in measured[turn % len(measured) :] + measured[: turn % len(measured)]:
                    try:
                        with Running(server, Place(free_port(), 1, folder), args.server_cpu) as running:
                            check(running, size, args.tls)
                            generator.wrk(running, row, seconds_min, tls=args.tls)
                            before = running.usage()
                            load, _ = generator.wrk(running, row, max(args.seconds, seconds_min), tls=args.tls)
                            if load.errors:
                                raise Failed(f"{load.errors} errors")
                            # Of a large file few are whole when the time is over: what has come is what counts.
                            done = load.received / size if size >= 1 << 20 else load.requests
                            value = running.usage().since(before).total / done * 1e6
                    except Failed as error:
                        print(f"{row.name}: {server.name}: {error}", file=sys.stderr)
                        continue
                    figures.setdefault((row.name, server.name), []).append(value)
    names = [server.name for server in measured]
    print("| µs of server CPU for one GET |", " | ".join(names), "|")
    print("| --- |", " | ".join("---:" for _ in names), "|")
    for size, *_ in sizes:
        row = name_of(size)
        medians = {name: statistics.median(figures.get((row, name)) or [float("nan")]) for name in names}
        base = medians.get("nginx", float("nan"))
        cells = [f"{medians[name]:,.1f} ({medians[name] / base:.2f})" for name in names]
        print(f"| {row} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
