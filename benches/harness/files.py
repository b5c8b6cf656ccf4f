"""Static files: server CPU for one GET, of Gimmal beside nginx and h2o, by the size of the file."""

from __future__ import annotations

import http.client
import shutil
import ssl
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import rounds
import servers
from load import Generator
from process import Failed, Running, free_port
from rows import Request, Row
from servers import ROOT, Place, Server
from tls import make_certificate


@dataclass(frozen=True)
class File:
    name: str
    size: int
    connections: int
    seconds_min: int
    unit: str = "us of CPU"


ROWS = [File("1k", 1 << 10, 64, 1), File("64k", 64 << 10, 64, 1), File("1m", 1 << 20, 16, 1), File("100m", 100 << 20, 2, 3)]


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
        return servers.nginx_with(
            place,
            f"""
    open_file_cache max=1000 inactive=1h;
    default_type application/octet-stream;
    server {{
        listen {place.address} backlog=4096 reuseport{" ssl" if tls else ""}; {secret}
        location /files/ {{ alias {files}/; }}
    }}""",
        )

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
        return [shutil.which("h2o", path=servers.DAEMON_PATH), "-c", str(path)]

    return [gimmal("uring"), gimmal("epoll"), Server("nginx", "daemon", nginx), Server("h2o", "daemon", h2o)]


def check(running: Running, file: File, tls: bool) -> None:
    """What a client gets is the file, byte for byte."""
    kind = http.client.HTTPSConnection if tls else http.client.HTTPConnection
    more = {"context": ssl._create_unverified_context()} if tls else {}
    connection = kind("127.0.0.1", running.place.port, timeout=30, **more)
    connection.request("GET", f"/files/{file.name}")
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 200 or body != pattern(file.size):
        raise Failed(f"{file.name}: {answer.status}, {len(body)} bytes that are not the file")
    for field in ("last-modified", "etag", "content-length"):
        if field not in answer.headers:
            raise Failed(f"{file.name}: no {field}")


def main() -> None:
    parser = rounds.parser("bench-files", __doc__)
    parser.add_argument("--servers", default="", help="only these, with commas between")
    parser.add_argument("--tls", action="store_true", help="over HTTPS")
    args = parser.parse_args()
    rounds.build(args, [servers.BENCH])
    rows = rounds.chosen(ROWS, args.rows)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = folder / "files"
        files.mkdir()
        for row in rows:
            (files / row.name).write_bytes(pattern(row.size))
        # A file that has just been written may be held to be still changing.
        time.sleep(3)
        measured = [
            server
            for server in all_servers(files, make_certificate(folder) if args.tls else None)
            if not args.servers or server.name in args.servers.split(",")
        ]
        generator = Generator(args.load_cpus, 1, folder)

        def one(row: File, server: Server) -> float:
            asked = Row(row.name, "", row.connections, (Request(f"/files/{row.name}"),))
            with Running(server, Place(free_port(), 1, folder), args.server_cpu) as running:
                check(running, row, args.tls)
                generator.wrk(running, asked, row.seconds_min, tls=args.tls)
                before = running.usage()
                load, _ = generator.wrk(running, asked, max(round(args.seconds), row.seconds_min), tls=args.tls)
                if load.errors:
                    raise Failed(f"{load.errors} errors")
                # Of a large file few are whole when the time is over: what has come is what counts.
                done = load.received / row.size if row.size >= 1 << 20 else load.requests
                return running.usage().since(before).total / done * 1e6

        figures = rounds.measure(rows, measured, args.rounds, one)
    names = [server.name for server in measured]
    rounds.print_table(rows, measured, figures, "nginx" if "nginx" in names else names[0])


if __name__ == "__main__":
    main()
