"""Start the demonstration under gunicorn, with two workers, reachable only from this machine."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from pathlib import Path
from urllib.parse import quote

from . import tls
from .figures import folder_of_this_run

INSTANCE = Path(__file__).resolve().with_name("instance")

WELCOME = """\
The demo is at {url}

  - Sign up, fill the cart, and look at the receipt next to each page: it lists the store calls and their reasons.
  - Stop the demo with Ctrl-C and start it again, or kill a worker: you are still signed in.
  - Sign in with a second browser, and end that session from the first one.
  - See what an operator sees: curl {url}metrics

Set STORE=redis://localhost:6379/0 (or any other store's URL) to keep the sessions elsewhere. Set IDLE_TIMEOUT=20 to end
a session after 20 seconds without a click. Start it with "make demo TLS=1" to see sessions that are bound to a device.
"""


def kept_secret(file: Path) -> str:
    """Return the secret in the file. The first start creates it, readable only by its owner."""
    file.touch(mode=0o600)
    if not file.read_text():
        file.write_text(secrets.token_urlsafe(32))
    return file.read_text()


def listening_socket() -> socket.socket:
    """Listen on port 8000 of this machine, or on a free port if that one is in use."""
    try:
        return socket.create_server(("127.0.0.1", 8000))
    except OSError:
        return socket.create_server(("127.0.0.1", 0))


def start_tls(port: int) -> list[str]:
    """Create a certificate, say how to use the demo with it, and return gunicorn's options for it."""
    certificate, key, key_hash = tls.make_certificate(INSTANCE)
    text = tls.WELCOME.format(
        url=f"https://localhost:{port}/", folder=INSTANCE / "chromium", features=tls.FEATURES, key_hash=key_hash
    )
    print(text, flush=True)  # noqa: T201
    return [f"--certfile={certificate}", f"--keyfile={key}"]


def main() -> None:
    INSTANCE.mkdir(mode=0o700, exist_ok=True)
    os.environ.setdefault("SESSION_SECRET", kept_secret(INSTANCE / "secret"))
    os.environ.setdefault("STORE", f"sqlite:///{quote(str(INSTANCE))}/sessions.db")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder_of_this_run(INSTANCE))  # of all workers: see /metrics
    listener = listening_socket()
    listener.set_inheritable(True)
    host, port = listener.getsockname()
    encryption = start_tls(port) if os.environ.get("TLS") else []
    if not encryption:
        print(WELCOME.format(url=f"http://{host}:{port}/"), flush=True)  # noqa: T201
    # Threads, because a WebSocket occupies one for as long as its page is open. Ctrl-C does not wait for it.
    workers = ["--workers=2", "--threads=32", "--graceful-timeout=1"]
    options = [*workers, *encryption, f"--bind=fd://{listener.fileno()}", "--log-level=warning"]
    # Gunicorn replaces this process, so Ctrl-C goes to gunicorn, which stops its workers.
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", *options, "demo_flask.app:create_app()"])


main()
