"""TLS rows: handshakes, keep-alive, downloads and idle connections, of Gimmal beside hyper with rustls, and nginx."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import rounds
import servers
from process import Failed, Running, free_port
from rounds import Row, count
from servers import PEERS, ROOT, Place, Server

LOAD = ROOT / "target" / "release" / "tls_load"
IDLE_CONNECTIONS = 1000


#: Arguments of `tls_load`, or of wrk if they begin with a path.
ROWS = [
    Row("full handshake, X25519MLKEM768", "us of CPU", ("full",)),
    Row("full handshake, X25519", "us of CPU", ("full", "--x25519")),
    Row("resumed handshake, X25519MLKEM768", "us of CPU", ("resumed",)),
    Row("resumed handshake, X25519", "us of CPU", ("resumed", "--x25519")),
    Row("keep-alive request, 64 connections", "us of CPU", ("/plaintext", "64")),
    Row("download of 1 MB, 16 connections", "us of CPU", ("/bytes/1000000", "16")),
    Row("download of 100 MB, 2 connections", "us of CPU", ("/bytes/100000000", "2")),
    Row("idle connection", "bytes", ("idle",)),
]


def make_certificate(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "server.pem", folder / "server.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
        + ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        # An authority cannot be a server.
        + ["-addext", "basicConstraints=critical,CA:FALSE"]
        + ["-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    key.chmod(0o600)
    return certificate, key


def all_servers(certificate: Path, key: Path) -> list[Server]:
    os.environ |= {"TLS_CERTIFICATE": str(certificate), "TLS_KEY": str(key)}

    def gimmal(backend: str) -> Server:
        own = [str(ROOT / "target" / "release" / "examples" / "bench"), "--backend", backend]
        own += ["--certificate", str(certificate), "--key", str(key)]
        name = "gimmal" if backend == "uring" else "gimmal-epoll"
        return Server(name, "ours", lambda place: [*own, "--addr", place.address, "--cores", str(place.cores)])

    def hyper(place: Place) -> list[str]:
        return [str(PEERS / "target" / "release" / "peer-hyper"), "--addr", place.address, "--cores", str(place.cores)]

    def nginx(place: Place) -> list[str]:
        command = servers.nginx_command(place)
        path = place.folder / "nginx.conf"
        tls = f"ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_session_cache shared:tls:10m;"
        tls += " ssl_protocols TLSv1.2 TLSv1.3;"
        text = path.read_text().replace("backlog=4096 reuseport;", f"backlog=4096 reuseport ssl; {tls}")
        path.write_text(text)
        return command

    return [gimmal("uring"), gimmal("epoll"), Server("hyper", "framework", hyper), Server("nginx", "daemon", nginx)]


def measure(running: Running, row: Row, seconds: float, load_cpus: str) -> float:
    if row.arguments[0] == "idle":
        return rounds.idle_bytes(running, [str(LOAD), running.place.address, "idle"], IDLE_CONNECTIONS, 50)
    pinned = ["taskset", "-c", load_cpus]
    before = running.usage()
    if row.arguments[0].startswith("/"):
        path, connections = row.arguments
        url = f"https://{running.place.address}{path}"
        # What is cut off at the end is not counted, and is to be little of the whole.
        seconds = max(seconds, 3) if path.endswith("00000000") else seconds
        command = [*pinned, "wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}", "--timeout", "20", url]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        done = count(output, r"(\d+) requests in")
        if "Non-2xx" in output or "Socket errors" in output:
            raise Failed(output.strip())
    else:
        command = [*pinned, str(LOAD), running.place.address, *row.arguments, "--seconds", str(seconds)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        done = count(output, r"(\d+) connections, 0 wrong")
    if done == 0:
        raise Failed("not one was done")
    return running.usage().since(before).total / done * 1e6


def main() -> None:
    args = rounds.parser("bench-tls", __doc__).parse_args()
    # Much of a handshake is memory that rustls asks for, so that the allocator has to be the peers'.
    bench = (*servers.BENCH, "--features", "mimalloc")
    rounds.build(args, [bench, ("-p", "gimmal-benches", "--bin", "tls_load")], ["peer-hyper"])
    rows = rounds.chosen(ROWS, args.rows)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measured = all_servers(*make_certificate(folder))

        def one(row: Row, server: Server) -> float:
            with Running(server, Place(free_port(), 1, folder), args.server_cpu) as running:
                return measure(running, row, args.seconds, args.load_cpus)

        figures = rounds.measure(rows, measured, args.rounds, one)
    rounds.print_table(rows, measured, figures, "hyper")


if __name__ == "__main__":
    main()
