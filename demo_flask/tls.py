"""A certificate for the demonstration over https, created at startup."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

FEATURES = "DeviceBoundSessions,EnableBoundSessionCredentialsSoftwareKeysForManualTesting"

WELCOME = """\
The demo is at {url}, with a certificate that it created. Browsers warn about it, and bind no session while they do.
To see a bound session in Chromium on Linux, start it with keys in software, and with this certificate as a good one:

  chromium --user-data-dir={folder} \\
    --enable-features={features} \\
    --ignore-certificate-errors-spki-list={key_hash} \\
    {url}theft
"""


def make_certificate(folder: Path) -> tuple[Path, Path, str]:
    """Create a certificate for this machine; return its file, the file of its key, and the hash that Chromium takes."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(timezone.utc)
    hosts = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    dated = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=30))
    certificate = dated.add_extension(hosts, critical=True).sign(key, hashes.SHA256())
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    files[1].touch(mode=0o600)
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return *files, base64.b64encode(hashlib.sha256(public).digest()).decode()
