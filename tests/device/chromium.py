"""A real Chromium that binds sessions with software keys, and watches itself do it.

Both features are needed: the first is off by default on Linux, and there is no hardware key. A certificate that is only
overridden does not count, so the browser is told that this key is good.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import BrowserContext, Page, sync_playwright

from tests.chromium import binary

KEYS = "EnableBoundSessionCredentialsSoftwareKeysForManualTesting"


def key_hash(certificate: Path) -> str:
    """The SHA-256 of the certificate's public key, as the browser's list of good keys has it."""
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    return base64.b64encode(
        hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    ).decode()


@contextmanager
def binding_chromium(certificate: Path, profile: Path, *, quota: bool = False) -> Iterator[BrowserContext]:
    """Start Chromium with a profile of its own, which trusts this certificate and binds sessions.

    :param quota: whether it keeps its limit of 6 signatures in 9 minutes.
    """
    feature = "DeviceBoundSessions" if quota else "DeviceBoundSessions:RefreshQuota/false"
    with sync_playwright() as playwright:
        kind = playwright.chromium
        context = kind.launch_persistent_context(
            profile,
            executable_path=binary(kind.executable_path),
            headless=True,
            chromium_sandbox=False,
            args=[
                f"--enable-features={feature},{KEYS}",
                f"--ignore-certificate-errors-spki-list={key_hash(certificate)}",
            ],
        )
        try:
            yield context
        finally:
            context.close()


class Observed:
    """What the browser says of its bound sessions in a page: the events of the DevTools protocol."""

    def __init__(self, page: Page) -> None:
        self.events: list[dict[str, Any]] = []
        session = page.context.new_cdp_session(page)
        session.on("Network.deviceBoundSessionEventOccurred", self._note)
        session.send("Network.enable")
        session.send("Network.enableDeviceBoundSessions", {"enable": True})

    def _note(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Events of a kind: creation, refresh, challenge, or termination."""
        return [event for event in self.events if f"{kind}EventDetails" in event]

    def results(self, kind: str, member: str) -> list[str]:
        """What the events of a kind say under a member, such as ``fetchResult``."""
        return [event[f"{kind}EventDetails"][member] for event in self.of(kind)]
