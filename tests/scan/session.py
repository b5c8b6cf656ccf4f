"""A login, as a browser does it: the form of the login page, and the cookie that the answer sets."""

import re
import ssl
from http.cookiejar import CookieJar
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, HTTPSHandler, Request, build_opener


class Session:
    def __init__(self, server):
        """Logs in as the first user that the server prints when it starts, who is a manager."""
        self.server, self.cookies = server, CookieJar()
        # The certificate is one for development, which nobody trusts.
        tls = HTTPSHandler(context=ssl._create_unverified_context())
        self.opener = build_opener(HTTPCookieProcessor(self.cookies), tls)
        users = re.search(r"^  (\w+) +(\S.*?) +manager", server.log_path.read_text(errors="replace"), re.MULTILINE)
        self.name, self.password = users.groups()
        self.send("/login", "/login", name=self.name, password=self.password, next="")

    def open(self, path, data=None):
        with self.opener.open(Request(self.server.url + path, data), timeout=20) as answer:
            return answer.read().decode()

    def send(self, page, action, **fields):
        """Sends a form with the token that it has on its page."""
        token = re.search(r'name="csrf_token" value="([^"]*)"', self.open(page))
        form = fields | ({"csrf_token": token[1]} if token else {})
        return self.open(action, urlencode(form, doseq=True).encode())

    def cookie(self):
        """The field `Cookie` of a browser that is logged in."""
        session = [cookie for cookie in self.cookies if cookie.name.endswith("session")]
        if not session:
            raise RuntimeError(f"{self.server.name} has not let {self.name} in")
        return f"{session[0].name}={session[0].value}"

    def key(self):
        """A new API key that may read and write."""
        return re.search(r'id="new-key">([^<]+)<', self.send("/account", "/account/keys", scope=["read", "write"]))[1]
