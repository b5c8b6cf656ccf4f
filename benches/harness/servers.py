"""What is measured: how each server is built, configured and started."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "benches" / "peers"
DEBIAN_MODULES = Path("/usr/lib/nginx/modules")


@dataclass
class Place:
    """Where one server is to listen, and what it may use."""

    port: int
    cores: int
    folder: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@dataclass
class Server:
    name: str
    kind: str  # "ours", "floor", "framework", "loop" (sockets and a parser, no framework) or "daemon"
    command: Callable[[Place], list[str]]
    package: str | None = None  # of which Cargo.lock names the version
    rows: tuple[str, ...] = ("*",)  # patterns of the rows that it can answer
    version: str = ""
    missing: str = ""  # why it cannot be measured
    notes: list[str] = field(default_factory=list)


FLOOR_ROWS = ("plaintext-*", "pipelined-*", "close-*", "echo-*", "open-*", "idle-*")


def all_servers() -> list[Server]:
    def own(binary: str, backend: str) -> Callable[[Place], list[str]]:
        path = ROOT / "target" / "release" / binary
        return lambda place: [
            str(path), "--addr", place.address, "--cores", str(place.cores), "--backend", backend,
        ]

    def peer(name: str) -> Callable[[Place], list[str]]:
        path = PEERS / "target" / "release" / f"peer-{name}"
        return lambda place: [str(path), "--addr", place.address, "--cores", str(place.cores)]

    def framework(name: str, package: str, kind: str = "framework") -> Server:
        return Server(name, kind, peer(name), package)

    return [
        Server("floor", "floor", own("floor", "uring"), rows=FLOOR_ROWS),
        Server("floor-epoll", "floor", own("floor", "epoll"), rows=FLOOR_ROWS),
        Server("gimmal", "ours", own("examples/bench", "uring")),
        Server("gimmal-epoll", "ours", own("examples/bench", "epoll")),
        framework("hyper", "hyper"),
        framework("axum", "axum"),
        framework("actix-web", "actix-web"),
        framework("ntex", "ntex"),
        framework("xitca-web", "xitca-web"),
        framework("may-minihttp", "may_minihttp"),
        framework("cyper-axum", "cyper-axum"),
        framework("monoio", "monoio", "loop"),
        framework("tokio-uring", "tokio-uring", "loop"),
        framework("compio", "compio", "loop"),
        Server("nginx", "daemon", nginx_command),
        Server("h2o", "daemon", h2o_command),
    ]


def build(servers: list[Server], say: Callable[[str], None]) -> None:
    """Builds all that is to be built. A peer that fails to build is marked as missing; ours must build."""
    say("building Gimmal's bench example and the floor")
    build_own(BENCH, FLOOR)
    for server in servers:
        if server.package:
            say(f"building {server.name}")
            if build_peers(f"peer-{server.name}") != 0:
                server.missing = "does not build"


#: What `cargo build` takes to make the programs of this repository.
BENCH = ("-p", "gimmal-examples", "--example", "bench")
FLOOR = ("-p", "gimmal-benches", "--bin", "floor")


def build_own(*programs: tuple[str, ...]) -> None:
    for program in programs:
        cargo = ["cargo", "build", "--release", *program]
        subprocess.run(cargo, cwd=ROOT, env=os.environ | toolchain(), check=True)


def build_peers(*packages: str) -> int:
    """Zero, or what cargo fails with."""
    chosen = [argument for package in packages for argument in ("-p", package)]
    cargo = ["cargo", "build", "--release", "--locked", "-q", *chosen]
    return subprocess.run(cargo, cwd=PEERS, env=os.environ | toolchain()).returncode


def toolchain() -> dict[str, str]:
    """Everything is compiled by the compiler that the peers need."""
    if not shutil.which("rustup"):
        return {}
    text = (PEERS / "rust-toolchain.toml").read_text()
    return {"RUSTUP_TOOLCHAIN": re.search(r'channel = "(.+)"', text)[1]}


def find_versions(servers: list[Server]) -> None:
    lock = (PEERS / "Cargo.lock").read_text()
    packages = dict(re.findall(r'name = "(.+)"\nversion = "(.+)"', lock))
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    for server in servers:
        if server.package:
            server.version = packages[server.package]
        elif server.kind in ("ours", "floor"):
            server.version = commit
        elif not shutil.which(server.name, path=DAEMON_PATH):
            server.missing = f"not installed (Debian package {server.name})"
        else:
            server.version = daemon_version(server.name)
    nginx = next((server for server in servers if server.name == "nginx"), None)
    if nginx and not (DEBIAN_MODULES / "ngx_http_echo_module.so").exists():
        nginx.rows = ("plaintext-*", "pipelined-*", "close-*", "json", "parameter", "download-*", "open-*", "idle-*")
        nginx.notes.append("no echo rows without Debian package libnginx-mod-http-echo")


DAEMON_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def daemon_version(name: str) -> str:
    result = subprocess.run(
        [shutil.which(name, path=DAEMON_PATH), "-v"], capture_output=True, text=True
    )
    found = re.search(r"(\d+\.\d+[\w.]*)", result.stdout + result.stderr)
    return found[1] if found else "unknown"


def write_download_files(folder: Path) -> None:
    """What `GET /bytes/{n}` is for servers that send files."""
    files = folder / "bytes"
    files.mkdir(exist_ok=True)
    for size in (4096, 1_000_000, 100_000_000):
        path = files / str(size)
        if not path.exists() or path.stat().st_size != size:
            path.write_bytes(b"x" * size)


def nginx_command(place: Place) -> list[str]:
    write_download_files(place.folder)
    module = DEBIAN_MODULES / "ngx_http_echo_module.so"
    echo = """
        location = /echo {
            default_type application/octet-stream; client_body_buffer_size 1m; client_body_in_single_buffer on;
            echo_read_request_body; echo_request_body;
        }
        location = /upload {
            default_type text/plain; client_body_buffer_size 32m; echo_read_request_body; echo -n $content_length;
        }"""
    return nginx_with(
        place,
        f"""
    client_max_body_size 0;
    client_body_temp_path {place.folder}/nginx-body;
    open_file_cache max=100 inactive=1h;
    server {{
        listen {place.address} backlog=4096 reuseport;
        location = /plaintext {{ default_type text/plain; return 200 "Hello, World!"; }}
        location = /json {{ default_type application/json; return 200 '{{"message":"Hello, World!"}}'; }}
        location ~ ^/users/([^/]+)$ {{ default_type text/plain; return 200 $1; }}
        location /bytes/ {{ default_type application/octet-stream; root {place.folder}; }}
        {echo if module.exists() else ""}
    }}""",
        f"load_module {module};" if module.exists() else "",
    )


def nginx_with(place: Place, http: str, modules: str = "") -> list[str]:
    """The command of an nginx that is tuned as people do it, with `http` in its block of that name."""
    path = place.folder / "nginx.conf"
    path.write_text(f"""
{modules}
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
{http}
}}
""")
    return [shutil.which("nginx", path=DAEMON_PATH), "-c", str(path), "-e", f"{place.folder}/nginx.log"]


def h2o_command(place: Place) -> list[str]:
    write_download_files(place.folder)

    def handler(ruby: str) -> str:
        return f"mruby.handler: |\n            {ruby}"

    text = '{"content-type" => "text/plain"}'
    configuration = f"""
num-threads: {place.cores}
max-connections: 100000
tcp-fastopen: 0
http1-request-timeout: 3600
limit-request-body: 1073741824
file.mime.setdefaulttype: application/octet-stream
listen:
  host: 127.0.0.1
  port: {place.port}
hosts:
  default:
    paths:
      /plaintext:
        {handler(f'proc {{|env| [200, {text}, ["Hello, World!"]]}}')}
      /json:
        {handler('proc {|env| [200, {"content-type" => "application/json"}, [JSON.generate({"message" => "Hello, World!"})]]}')}
      /users:
        {handler(f'proc {{|env| [200, {text}, [env["PATH_INFO"][1..-1]]]}}')}
      /echo:
        {handler('proc {|env| [200, {"content-type" => "application/octet-stream"}, [env["rack.input"].read]]}')}
      /upload:
        {handler(f'proc {{|env| [200, {text}, [env["rack.input"].read.length.to_s]]}}')}
      /bytes:
        file.dir: {place.folder}/bytes
"""
    path = place.folder / "h2o.conf"
    path.write_text(configuration)
    return [shutil.which("h2o", path=DAEMON_PATH), "-c", str(path)]
