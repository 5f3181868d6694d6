"""The counter for pages of other sites to frame: in each of them the browser has another session. And such a page."""

from __future__ import annotations

import os

from tests.apps.counter import counter
from wsgisession import SessionMiddleware

inner = SessionMiddleware(
    counter, store=os.environ["STORE"], name="__Host-sid", cookie={"same_site": "None", "partitioned": True}
)


def app(environ, start_response):
    if environ["PATH_INFO"] != "/framing":
        return inner(environ, start_response)
    start_response("200 OK", [("Content-Type", "text/html")])
    return [f'<iframe src="https://127.0.0.1:{environ["SERVER_PORT"]}/{environ["QUERY_STRING"]}"></iframe>'.encode()]
