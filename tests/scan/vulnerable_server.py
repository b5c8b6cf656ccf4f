"""A server that is open to every attack that the scanners look for. Never use any of it: it is the control of scripts/scan.

A scanner that finds nothing here is of no use, and what it says of another server is worth nothing. Each flaw stands next
to the comment that names it. It listens on 127.0.0.1 alone.

usage: vulnerable_server.py PORT [CERTIFICATE KEY] [--login] [--one-at-a-time]
With a certificate, it speaks TLS 1.0 and weak ciphers. With --login, nobody sees anything before the login.
"""

import json
import secrets
import sqlite3
import ssl
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

FOLDER = Path(__file__).parent
USER = ("alice", "wonderland is far")
SESSION = secrets.token_hex(16)
DATABASE = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
DATABASE.executescript(
    """CREATE TABLE tasks (id INTEGER PRIMARY KEY, title TEXT, done INTEGER);
       INSERT INTO tasks (title, done) VALUES ('read', 0), ('write', 1), ('rest', 0);
       CREATE TABLE entries (author TEXT, text TEXT);
       INSERT INTO entries VALUES ('Ada', 'a fine cellar');
       CREATE TABLE secrets (secret TEXT);
       INSERT INTO secrets VALUES ('the key to the cellar');"""
)


class Vulnerable(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    needs_login = False

    def log_message(self, *_):
        pass

    def answer(self, status, body, content_type="text/html; charset=utf-8", fields=()):
        body = body.encode("utf-8", "replace")
        # Flaw: header injection, as nothing looks at what is written; and no security header, and a bare cookie.
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        if self.is_logged_in():
            head += f"Set-Cookie: session={SESSION}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in fields) + "\r\n"
        self.wfile.write(head.encode("latin-1", "replace") + body)

    def is_logged_in(self):
        has_cookie = f"session={SESSION}" in self.headers.get("Cookie", "")
        return not self.needs_login or has_cookie or self.headers.get("Authorization") == f"Bearer {SESSION}"

    def login_page(self):
        self.answer(
            200,
            """<!doctype html><title>Log in</title><form method="post" action="/login">
            <input name="name"><input name="password" type="password"><button>Log in</button></form>""",
        )

    def query_rows(self, text):
        """Flaw: the text of a query is made of what the client sends, and the client sees what is wrong with it."""
        try:
            rows = DATABASE.execute(text).fetchall()
        except sqlite3.Error as error:
            return self.answer(500, json.dumps({"error": f"sqlite3.OperationalError: {error}"}), "application/json")
        self.answer(200, json.dumps([dict(zip(("id", "title", "done"), row)) for row in rows]), "application/json")

    def do_GET(self):
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        path = unquote(url.path)
        if path == "/login":
            return self.login_page()
        if not self.is_logged_in():
            return self.answer(303, "", fields=[("Location", "/login")])
        if path == "/tasks":
            return self.query_rows(f"SELECT id, title, done FROM tasks WHERE id > {query.get('after', '0')} LIMIT 100")
        if path.startswith("/tasks/"):
            return self.query_rows(f"SELECT id, title, done FROM tasks WHERE id = {path[7:]}")
        if path == "/file":
            # Flaw: path traversal.
            try:
                return self.answer(200, (FOLDER / query.get("name", "")).read_text(errors="replace"), "text/plain")
            except OSError as error:
                return self.answer(404, str(error))
        if path == "/go":
            # Flaw: open redirect.
            return self.answer(303, "", fields=[("Location", query.get("next", "/"))])
        if path == "/language":
            return self.answer(200, "set", fields=[("X-Language", query.get("language", "en"))])
        self.page(query.get("search", ""))

    def page(self, search):
        # Flaws: stored and reflected cross-site scripting, SQL injection, and a form without a CSRF token.
        try:
            entries = DATABASE.execute(f"SELECT author, text FROM entries WHERE text LIKE '%{search}%'").fetchall()
        except sqlite3.Error as error:
            return self.answer(500, f"sqlite3.OperationalError: {error}")
        items = "".join(f"<article><h2>{author}</h2><p>{text}</p></article>" for author, text in entries)
        self.answer(
            200,
            f"""<!doctype html><title>Guest book</title>
            <form><input name="search" value="{search}"> <button>Search</button></form>
            <form method="post" action="/entries"><input name="author"><textarea name="text"></textarea><button>Write</button></form>
            <a href="/file?name=vulnerable_server.py">source</a> <a href="/go?next=/">home</a>
            <a href="/language?language=en">English</a> <a href="/logout">Log out</a>{items}""",
        )

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode("utf-8", "replace")
        path, form = urlsplit(self.path).path, dict(parse_qsl(body, keep_blank_values=True))
        if path == "/login" and (form.get("name"), form.get("password")) == USER:
            return self.answer(303, "", fields=[("Location", "/"), ("Set-Cookie", f"session={SESSION}")])
        if not self.is_logged_in():
            return self.answer(303, "", fields=[("Location", "/login")])
        if path == "/account/keys":
            return self.answer(200, f'<pre id="new-key">{SESSION}</pre>')
        if path == "/tasks":
            try:
                title = json.loads(body)["title"]
            except (ValueError, KeyError, TypeError) as error:
                return self.answer(400, str(error))
            return self.query_rows(f"SELECT id, title, done FROM tasks WHERE title = '{title}'")
        DATABASE.execute("INSERT INTO entries VALUES (?, ?)", (form.get("author", ""), form.get("text", "")))
        self.answer(303, "", fields=[("Location", "/")])


class OneAtATime(HTTPServer):
    """Flaw: one slow client holds up all others."""

    request_queue_size = 512


def main():
    port, options = int(sys.argv[1]), sys.argv[2:]
    kind = OneAtATime if "--one-at-a-time" in options else ThreadingHTTPServer
    Vulnerable.needs_login = "--login" in options
    files = [option for option in options if not option.startswith("--")]
    server = kind(("127.0.0.1", port), Vulnerable)
    if files:
        # Flaws: TLS 1.0, and ciphers that are broken.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.load_cert_chain(*files)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    name, password = USER
    print(f"  {name}  {password}  manager\nlistening on {server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
