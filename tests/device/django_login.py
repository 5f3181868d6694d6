"""Sending a form with the software client."""

from __future__ import annotations

from io import BytesIO
from typing import Any
from urllib.parse import urlencode

from tests.device.client import Client, Response


def post_form(client: Client, path: str, **form: Any) -> Response:
    """Post a form as the page of this site would."""
    body = urlencode(form).encode()
    app = client.app

    def with_body(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == path:
            more = {"wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body))}
            environ.update(more, CONTENT_TYPE="application/x-www-form-urlencoded")
        return app(environ, start_response)

    client.app = with_body
    try:
        return client.post(path)
    finally:
        client.app = app
