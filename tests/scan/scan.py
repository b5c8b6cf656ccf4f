"""Scans the examples, and before them a server that is known to be vulnerable: what a scanner does not find there, it has not
looked for anywhere."""

import argparse
import shutil
import sys
import time
from collections import Counter

import scanners
import servers
import static
from scanners import Inconclusive
from servers import API, OUTPUT, ROOT, SITE

NEEDED = {"sqlmap": "sqlmap", "wapiti": "wapiti", "testssl": "testssl.sh", "slowhttptest": "slowhttptest", "openssl": "openssl"}
JSON_TITLE = ("--data", '{"title": "read*"}', "--headers", "Content-Type: application/json", "--method", "POST")


class Table:
    """One row for each look of a scanner: what it found in the control, and in ours."""

    def __init__(self):
        self.rows, self.has_failed = [], False

    def look(self, scanner, what, control, ours, must_find, server=None, known=None):
        """`must_find` has to be among what is found in the control. `known` explains what is found in ours and is no fault."""
        started, known = time.monotonic(), known or {}
        in_control = attempt(control)
        before = server.statuses() if server else Counter()
        in_ours = attempt(ours)
        answered = server.statuses() - before if server else Counter()
        missed = [want for want in must_find if not any(want in found for found in in_control or [])]
        if in_control is None or missed:
            verdict = f"NO CONTROL: missed {', '.join(missed) or 'all'}"
        elif in_ours is None or (server and not answered):
            verdict = "NO VERDICT"
        else:
            left = [found for found in in_ours if found not in known]
            verdict = f"FOUND: {'; '.join(left)}" if left else "clean"
        self.has_failed |= verdict != "clean"
        explained = "; ".join(f"{found}: {known[found]}" for found in in_ours or [] if found in known)
        self.rows.append((scanner, what, "; ".join(in_control or ["-"]), verdict, tell(answered) if server else "-", explained))
        seconds = time.monotonic() - started
        print(f"{scanner:12} {what:56} {verdict}  ({seconds:.0f} s)", flush=True)

    def markdown(self):
        names = ("scanner", "looked for", "found in the control", "in ours", "requests that ours answered", "explained")
        lines = [f"| {' | '.join(names)} |", f"| {' | '.join('---' for _ in names)} |"]
        return "\n".join(lines + [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in self.rows]) + "\n"


def tell(answered):
    """How many requests there were: of those that a limit refused, a scanner has learned nothing."""
    total, refused = answered.total(), answered["429"]
    return f"{total}" + (f", {refused} of them refused by a limit" if refused else "")


def attempt(look):
    try:
        return look()
    except Inconclusive as why:
        print(f"  {why}", flush=True)
        return None


def sources(table):
    control = static.control_crate()
    table.look(
        "clippy", "denied lints, unsafe code without a reason",
        lambda: static.clippy("clippy-control", control),
        lambda: static.clippy("clippy-ours", ROOT, "--workspace", "--all-features"),
        ["unsafe block missing a safety comment", "`todo` should not be present"],
    )
    table.look(
        "inventory", "unsafe code outside of crates/runtime",
        lambda: static.unsafe_outside_runtime(control, "src/*.rs"),
        lambda: static.unsafe_outside_runtime(ROOT / "crates", "[!r]*/src/**/*.rs"),
        ["unsafe code in src/lib.rs"],
    )


def api(table):
    with servers.control("control-api") as bad, servers.example(API, "http", "sqlmap") as good:
        for what, path, options in [
            ("SQL injection by the query", "/tasks?after=0&done=true", ()),
            ("SQL injection by the path", "/tasks/1*", ()),
            ("SQL injection by JSON", "/tasks", JSON_TITLE),
        ]:
            name = f"sqlmap-{len(table.rows)}"
            table.look(
                "sqlmap", f"{API}: {what}",
                lambda: scanners.sqlmap(f"{name}-control", bad.url + path, *options),
                lambda: scanners.sqlmap(f"{name}-ours", good.url + path, *options),
                ["SQL injection"], good,
            )


def site(table):
    with servers.control("control-site") as bad, servers.example(SITE, "https", "pages") as good:
        # Slower than the limit of the site, or nothing but refusals would be scanned.
        patient = ("--delay", "0.02", "--force-ssl")
        table.look(
            "sqlmap", f"{SITE}: SQL injection by the search",
            lambda: scanners.sqlmap("sqlmap-site-control", bad.url + "/?search=fine"),
            lambda: scanners.sqlmap("sqlmap-site-ours", good.url + "/?search=fine", *patient),
            ["SQL injection"], good,
        )
        table.look(
            "wapiti", f"{SITE}: all that it attacks",
            lambda: scanners.wapiti("wapiti-control", bad.url),
            lambda: scanners.wapiti("wapiti-ours", good.url),
            ["SQL Injection", "Cross Site Scripting", "Path Traversal", "Open Redirect",
             "CSP is not set", "X-Frame-Options is not set", "HttpOnly Flag", "Cross Site Request Forgery"],
            good,
            {"X-XSS-Protection is not set": "browsers have removed it; where it is left, it opens holes"},
        )


def tls(table):
    with servers.control_over_tls("control-tls") as bad, servers.example(SITE, "https", "tls") as good:
        table.look(
            "testssl", f"{SITE}: protocols, ciphers, attacks on TLS, headers",
            lambda: scanners.testssl("testssl-control", bad.port),
            lambda: scanners.testssl("testssl-ours", good.port),
            ["TLS1 ", "TLS1_1 ", "HSTS", "cipherlist"],
        )


def slow(table):
    for what, kind in [("slow heads (slowloris)", "-H"), ("slow bodies", "-B")]:
        with servers.control("control-slow", "--one-at-a-time") as bad, servers.example(API, "http", f"slow{kind}") as good:
            table.look(
                "slowhttptest", f"{API}: {what}",
                lambda: scanners.slow_clients(f"slow{kind}-control", bad.url, kind),
                lambda: scanners.slow_clients(f"slow{kind}-ours", good.url, kind),
                ["denied to others"],
            )


def main():
    parser = argparse.ArgumentParser(prog="scripts/scan", description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="*", help="these alone: sources, api, site, tls, slow")
    args = parser.parse_args()
    missing = [package for command, package in NEEDED.items() if not shutil.which(command)]
    if missing:
        sys.exit(f"Missing: apt-get install {' '.join(missing)}")
    servers.fresh_output()
    servers.build()
    table = Table()
    for part in (sources, api, site, tls, slow):
        if not args.part or part.__name__ in args.part:
            part(table)
    if static.has_advisories():
        print(f"advisories   {'; '.join(attempt(static.advisories) or ['none known'])} (no control)")
    else:
        print("advisories   not looked for: no database (cargo deny fetch db, where GitHub can be reached)")
    unsafe = static.unsafe_count()
    print(f"unsafe       {sum(unsafe.values())} places in {len(unsafe)} files of crates/runtime")
    (OUTPUT / "table.md").write_text(table.markdown())
    print(f"\n{table.markdown()}\nWhat each scanner said is in {OUTPUT.relative_to(ROOT)}.")
    if table.has_failed:
        sys.exit(1)
