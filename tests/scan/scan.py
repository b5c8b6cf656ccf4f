"""Scans the examples, and before them a server that is known to be vulnerable: what a scanner does not find there, it has not
looked for anywhere."""

import argparse
import json
import shutil
import sys
import time
from collections import Counter

import scanners
import servers
import static
from scanners import Inconclusive
from servers import API, OUTPUT, ROOT, SITE
from session import Session

NEEDED = {"sqlmap": "sqlmap", "wapiti": "wapiti", "testssl": "testssl.sh", "slowhttptest": "slowhttptest", "openssl": "openssl"}
JSON = "Content-Type: application/json"
JSON_TITLE = ("--data", '{"title": "read*"}', "--headers", JSON, "--method", "POST")


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
        elif in_ours is None or (server and 2 * sum(refusals(answered)) >= answers(answered)):
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


def answers(answered):
    return answered.total() - answered["login"]


def refusals(answered):
    """Answers from which a scanner has learned nothing: by a limit, for want of a login, for want of a right or a token."""
    return answered["429"], max(answered["login"], answered["401"]), answered["403"]


def tell(answered):
    reasons = zip(refusals(answered), ("refused by a limit", "not logged in", "forbidden"))
    return ", ".join([f"{answers(answered)}", *(f"{count} of them {reason}" for count, reason in reasons if count)])


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


def as_browser(session, _):
    return "--cookie", session.cookie(), "-p", "search"


def with_key(session, _):
    return "--headers", f"Authorization: Bearer {session.key()}"


def json_with_key(session, member):
    headers = f"Authorization: Bearer {session.key()}\n{JSON}"
    return "--data", json.dumps({member: "read*"}), "--headers", headers, "--method", "POST"


def site(table):
    with servers.control("control-site", "--login") as bad, servers.example(SITE, "https", "pages") as good:
        in_bad, in_good = Session(bad), Session(good)
        # Slower than the limits of the site, which are 100 a second, and 120 a minute for an API key. The search is one
        # that finds a note: in a page that always says that nothing was found, sqlmap sees no difference.
        for what, control, ours, options, delay in [
            ("the search", "/?search=fine", "/?search=build", as_browser, "0.02"),
            ("the path of the API", "/tasks/1*", "/api/notes/1*", with_key, "0.3"),
            ("JSON to the API", "/tasks", "/api/notes", json_with_key, "0.3"),
        ]:
            name = f"sqlmap-{len(table.rows)}"
            table.look(
                "sqlmap", f"{SITE}: SQL injection by {what}, logged in",
                lambda: scanners.sqlmap(f"{name}-control", bad.url + control, *options(in_bad, "title")),
                lambda: scanners.sqlmap(
                    f"{name}-ours", good.url + ours, *options(in_good, "text"), "--delay", delay, "--force-ssl"
                ),
                ["SQL injection"], good,
            )
    # Afresh, as each note that sqlmap has written is one more form to crawl.
    with servers.control("control-crawl", "--login") as bad, servers.example(SITE, "https", "crawl") as good:
        in_bad, in_good = Session(bad), Session(good)
        table.look(
            "wapiti", f"{SITE}: all that it attacks, logged in",
            lambda: scanners.wapiti("wapiti-control", bad.url, (in_bad.name, in_bad.password)),
            lambda: scanners.wapiti("wapiti-ours", good.url, (in_good.name, in_good.password)),
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
