"""What a response cost: the store calls, and what happened to the session and to its cookie.

The session is written after the page was rendered and before its first byte is sent. So the receipt is the last piece
of the page, rendered when all of that is known.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain

from flask import Response, current_app, g, has_request_context

from wsgisession import SessionEvent, SessionManager

# The first of these that happened explains why the response has a cookie, or why it has none.
REASONS = {
    "gone": "The session was ended elsewhere while this request ran, so nothing was written.",
    "regenerated": "The session has a new ID, so the browser gets a new cookie. The old record is deleted.",
    "created": "A new session was written, so the browser gets its cookie.",
    "destroyed": "The session was ended, so the browser drops its cookie.",
    "merged": "Another request wrote at the same time. Both changes are in the store.",
    "saved": "The session changed, so it was written.",
    "touched": "The session is in use, so its idle timeout was restarted.",
    "rejected": "The cookie did not open a session.",
    "loaded": "The session was read and did not change: nothing to write, nothing to send.",
}


@dataclass
class Receipt:
    """The cost of one response.

    :param calls: the store calls, each with its milliseconds.
    :param events: what happened to the session.
    """

    calls: list[tuple[str, float]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    @property
    def reason(self) -> str:
        return next((REASONS[name] for name in REASONS if name in self.events), "The page did not use the session.")


def manager() -> SessionManager:
    """Return the manager of the current app."""
    found: SessionManager = current_app.extensions["wsgisession"].manager
    return found


def current() -> Receipt:
    """Return the receipt of the request. Outside a request, nothing is kept."""
    if not has_request_context():
        return Receipt()
    if "receipt" not in g:
        g.receipt = Receipt()
    found: Receipt = g.receipt
    return found


def note_event(event: SessionEvent) -> None:
    current().events.append(event.name)


def append(response: Response) -> Response:
    """Add the receipt to the end of the page."""
    if response.status_code == 200 and response.mimetype == "text/html":
        receipt, template = current(), current_app.jinja_env.get_template("receipt.html")

        def late() -> Iterator[bytes]:
            cookies = response.headers.getlist("Set-Cookie")
            yield template.render(receipt=receipt, cookies=cookies, worker=os.getpid()).encode()

        response.response = chain(response.iter_encoded(), late())
        response.headers.pop("Content-Length", None)
    return response


@contextmanager
def metered(verb: str, store: str) -> Iterator[None]:
    """Add a store call to the request's receipt."""
    began = time.perf_counter()
    try:
        yield
    finally:
        current().calls.append((verb, (time.perf_counter() - began) * 1000))
