"""wapiti, which Debian 12 has as 3.0.4, without two faults that keep it from scanning behind a login, and not as fast."""

import fnmatch
import re
import time

import requests
from wapitiCore.main.wapiti import wapiti_main
from wapitiCore.net import crawler

SECONDS_BETWEEN = 0.012

# Its own makes an expression that Python 3.11 refuses, so that --exclude ends it.
crawler.wildcard_translate = lambda pattern: re.compile(fnmatch.translate(pattern))

try_login = crawler.Crawler.try_login


def log_in(self, url):
    # It would send the name and the password as Basic credentials with every request, too.
    self._session.auth = None
    try_login(self, url)


crawler.Crawler.try_login = log_in

send = requests.Session.send


def send_slowly(self, *args, **options):
    # It has no delay of its own, and the site refuses more than 100 a second.
    time.sleep(SECONDS_BETWEEN)
    return send(self, *args, **options)


requests.Session.send = send_slowly
wapiti_main()
