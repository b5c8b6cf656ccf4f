"""The servers that are scanned: the control and the examples, each on a free port of this machine."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "target" / "scan"

# The example with pages behind a login, an API with keys, and a database. It speaks HTTPS.
SITE = "secure_api"
# The example with a JSON API over a database. It speaks plain HTTP.
API = "api"


class Server:
    """A process that serves for as long as the block runs."""

    def __init__(self, name, command, scheme="http"):
        self.name, self.command, self.scheme = name, command, scheme
        self.log_path = OUTPUT / f"{name}.log"

    def __enter__(self):
        self.log = self.log_path.open("w")
        self.process = subprocess.Popen(
            self.command, stdout=self.log, stderr=subprocess.STDOUT, env=os.environ | {"NO_COLOR": "1"}
        )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.process.poll() is None:
            found = re.search(r"^listening on (?:.*:)?(\d+)$", self.log_path.read_text(errors="replace"), re.MULTILINE)
            if found:
                self.port = int(found[1])
                self.url = f"{self.scheme}://127.0.0.1:{self.port}"
                return self
            time.sleep(0.05)
        self.__exit__()
        sys.exit(f"{self.name} did not start:\n{self.log_path.read_text(errors='replace')[-2000:]}")

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()

    def statuses(self):
        """How often each status was answered, as an example's access log tells, and who was sent to the login."""
        log = self.log_path.read_text(errors="replace")
        statuses = Counter(re.findall(r"gimmal::access: .*\bstatus=(\d{3})\b", log))
        # A browser is answered with 303 and a program with 401; the audit log has both.
        statuses["login"] = log.count('event="unauthenticated"')
        return statuses


def control(name, *options):
    script = Path(__file__).parent / "vulnerable_server.py"
    return Server(name, [sys.executable, str(script), str(free_port()), *options])


def control_over_tls(name):
    certificate, key = OUTPUT / "control.pem", OUTPUT / "control.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-out", certificate, "-keyout", key], check=True, capture_output=True)
    server = control(name, str(certificate), str(key))
    server.scheme = "https"
    return server


def example(name, scheme, purpose):
    binary = ROOT / "target" / "debug" / "examples" / name
    return Server(f"{name}-{purpose}", [str(binary), "--addr", "127.0.0.1:0"], scheme)


def build():
    command = ["cargo", "build", "--locked", "-q", "-p", "gimmal-examples", "--example", API, "--example", SITE]
    subprocess.run(command, cwd=ROOT, check=True)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def fresh_output():
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir(parents=True)
