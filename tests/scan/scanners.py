"""Other people's scanners: how each is run, and what it found.

Every function returns what was found as a sorted list of short texts; an empty one says that the scanner went through to
its end and found nothing. A scanner that did not come to its end is an `Inconclusive`, which is never taken for clean.
"""

import json
import re
import subprocess
from pathlib import Path

from servers import OUTPUT

SECONDS_MAX = 360
# The one that Debian's packages are installed for.
PYTHON = "/usr/bin/python3"


class Inconclusive(Exception):
    """The scanner broke off, so that what it did not find says nothing."""


def run(name, command):
    """Runs a scanner, and keeps what it says beside the results."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS_MAX)
    except subprocess.TimeoutExpired as error:
        raise Inconclusive(f"{command[0]} took longer than {SECONDS_MAX} s") from error
    text = result.stdout + result.stderr
    (OUTPUT / f"{name}.txt").write_text(" ".join(map(str, command)) + "\n\n" + text)
    return text


def sqlmap(name, url, *options):
    """SQL injection into what `url` and `options` mark."""
    command = ["sqlmap", "-u", url, *options, "--batch", "--flush-session", "--level", "2", "--risk", "2"]
    command += ["--output-dir", str(OUTPUT / name), "--disable-coloring", "--dbms", "sqlite", "--threads", "1"]
    command += ["--ignore-code", "400,401,404,415,422", "--technique", "BEU", "--timeout", "10", "--retries", "1"]
    text = run(name, command)
    found = re.findall(r"^Parameter: (.+?)$", text, re.MULTILINE)
    if found:
        return sorted({f"SQL injection: {parameter}" for parameter in found})
    if "all tested parameters do not appear to be injectable" in text:
        return []
    raise Inconclusive("sqlmap came to no verdict")


# Not `crlf`: it encodes its payload twice, and finds nothing in a server that decodes once as every server does.
WAPITI_MODULES = "xss,permanentxss,sql,file,exec,redirect,csp,http_headers,cookieflags,csrf"


def wapiti(name, url, user):
    """Logs in as a `user` (name and password) does, crawls a site, and attacks the forms and parameters that it finds."""
    report, config = OUTPUT / f"{name}.json", OUTPUT / f"{name}-config"
    # Without this file, a module that is not even used would be fetched from the network.
    config.mkdir()
    (config / "apps.json").write_text("{}")
    command = [PYTHON, Path(__file__).parent / "wapiti.py", "-u", f"{url}/", "-m", WAPITI_MODULES, "--scope", "folder"]
    command += ["-f", "json", "-o", str(report)]
    command += ["--flush-session", "--store-session", str(OUTPUT / name), "--store-config", str(config)]
    command += ["--verify-ssl", "0", "--no-bugreport", "--max-attack-time", "15", "--max-scan-time", "60", "-v", "1"]
    command += ["--auth-type", "post", "--auth-cred", "%".join(user), "--start", f"{url}/login"]
    # It would log itself out, be locked out, and never end: a key adds a form to the page, a password takes long to hash.
    for path in ("login*", "logout*", "account/*"):
        command += ["--exclude", f"{url}/{path}"]
    text = run(name, command)
    if "Login success" not in text:
        raise Inconclusive("wapiti could not log in")
    crawled = re.search(r"Wapiti found (\d+) URLs and forms", text)
    if not report.exists() or not crawled or int(crawled[1]) < 3:
        raise Inconclusive("wapiti broke off, or found neither a link nor a form")
    found = set()
    for category, findings in json.loads(report.read_text())["vulnerabilities"].items():
        # What is said of a header field or a cookie names it; other texts differ with each parameter.
        is_named = category in ("HTTP Secure Headers", "Content Security Policy Configuration")
        found |= {finding["info"] if is_named else category for finding in findings}
    return sorted(found)


def testssl(name, port):
    """Protocols, ciphers, known attacks on TLS, and header fields. Not the certificate, which is for development."""
    report = OUTPUT / f"{name}.json"
    command = ["testssl", "--quiet", "--color", "0", "--warnings", "off", "--openssl-timeout", "5", "--fast"]
    command += ["--protocols", "--std", "--headers", "--heartbleed", "--ccs-injection", "--ticketbleed", "--robot"]
    command += ["--renegotiation", "--compression", "--poodle", "--freak", "--logjam", "--drown", "--beast", "--rc4"]
    command += ["--jsonfile", str(report), f"127.0.0.1:{port}"]
    run(name, command)
    if not report.exists():
        raise Inconclusive("testssl wrote no report")
    findings = json.loads(report.read_text())
    if any(finding["severity"] == "FATAL" for finding in findings) or len(findings) < 20:
        raise Inconclusive("testssl broke off")
    bad = [finding for finding in findings if finding["severity"] in ("LOW", "MEDIUM", "HIGH", "CRITICAL")]
    return sorted({f"{finding['id']} ({finding['severity'].lower()})" for finding in bad})


def slow_clients(name, url, kind):
    """Clients that never end their requests (`kind` is -H for heads, -B for bodies): is everybody else still served?"""
    command = ["slowhttptest", kind, "-c", "300", "-i", "2", "-r", "200", "-l", "12", "-p", "3", "-u", f"{url}/"]
    text = run(name, command)
    answers = re.findall(r"service available:\s*\S*?(YES|NO)", re.sub(r"\x1b\[[0-9;]*m", "", text))
    if not answers:
        raise Inconclusive("slowhttptest said nothing of the service")
    return ["denied to others by slow clients"] if "NO" in answers else []
