"""A real browser for the tests: Chromium, of the system or of Playwright, and a certificate that it need not trust."""

from __future__ import annotations

import os
import shutil
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path
from urllib.request import urlopen

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, sync_playwright

from tests.programs import PROGRAMS, found
from tests.servers import HOST, ServerUnavailable
from tests.web import Gunicorn


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        kind = playwright.chromium
        # Going back is tested as people have it: with the pages that a browser keeps in memory.
        kept = ["--disable-back-forward-cache"]
        browser = kind.launch(executable_path=binary(kind.executable_path), ignore_default_args=kept)
        try:
            yield browser
        finally:
            browser.close()


def binary(of_playwright: str) -> str:
    named = os.environ.get("WSGISESSION_TEST_CHROMIUM")
    path = named or found("a browser") or shutil.which(of_playwright)
    if path is None:
        raise ServerUnavailable(f"there is no browser: {PROGRAMS['a browser'].cure}")
    return path


class Watch:
    """Notes what pages complain of, and which hosts they ask."""

    def __init__(self, context: BrowserContext) -> None:
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        context.on("console", self._note)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error" and "the server responded with" not in message.text:
            self.complaints.append(message.text)


class TLSGunicorn(Gunicorn):
    """Gunicorn over TLS, with a certificate of its own making for 127.0.0.1 and localhost."""

    def __init__(self, app: str, *options: str, **variables: str) -> None:
        super().__init__(app, *options, **variables)
        self.url = f"https://{HOST}:{self.port}"
        certificate, key = make_certificate(self.folder)
        self.options = (*options, f"--certfile={certificate}", f"--keyfile={key}")

    def answers(self) -> bool:
        with urlopen(self.url, context=ssl._create_unverified_context(), timeout=2) as response:
            return response.status == 200


def make_certificate(folder: Path) -> tuple[Path, Path]:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(timezone.utc)
    hosts = x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST)), x509.DNSName("localhost")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    dated = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
    certificate = dated.add_extension(hosts, critical=True).sign(key, hashes.SHA256())
    pem, pkcs8, open_ = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(pem))
    files[1].write_bytes(key.private_bytes(pem, pkcs8, open_))
    return files
