"""The real nginx, with the configuration of docs/deployment.md itself, before the app of that page under gunicorn."""

from __future__ import annotations

import datetime
import http.client
import os
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing
from http.cookies import SimpleCookie
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests import programs
from tests.servers import HOST, ROOT, Server
from tests.web import Gunicorn

PAGE = (ROOT / "docs" / "deployment.md").read_text()
NAME = "shop.example"


def block(language: str) -> str:
    """Return the first block of the page in this language."""
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


class Nginx(Server):
    """nginx with a server of the page, whose paths and port are replaced by those of the test.

    :param server: the block ``server`` of the configuration.
    """

    def __init__(self, server: str, socket: Path) -> None:
        self.program = programs.needed("nginx")
        super().__init__()
        certificate, key = self.folder / "shop.pem", self.folder / "shop.key"
        certify(certificate, key)
        replaced = {
            "listen 443 ssl": f"listen {HOST}:{self.port} ssl",
            "/etc/ssl/shop.pem": str(certificate),
            "/etc/ssl/shop.key": str(key),
            "/run/shop/gunicorn.sock": str(socket),
        }
        for ours, here in replaced.items():
            assert server.count(ours) == 1, f"the page says {ours!r} once"
            server = server.replace(ours, here)
        kept = "".join(f"{kind}_temp_path temp;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (self.folder / "nginx.conf").write_text(
            f"daemon off; pid nginx.pid; error_log stderr; {'user root;' if os.geteuid() == 0 else ''} events {{}}\n"
            f"http {{ access_log off; {kept}\n{server} }}\n"
        )

    def command(self) -> list[str]:
        return [self.program, "-p", str(self.folder), "-e", "stderr", "-c", "nginx.conf"]

    def answers(self) -> bool:
        return self.visit()[0].status in (200, 502)

    def visit(self, path: str = "/", **headers: str) -> tuple[http.client.HTTPResponse, str]:
        """Ask as a browser of another machine does, which does not know the certificate's issuer."""
        unverified = ssl.create_default_context(cafile=str(self.folder / "shop.pem"))
        unverified.check_hostname = False
        sent = {"Host": NAME, **{name.replace("_", "-"): value for name, value in headers.items()}}
        with closing(http.client.HTTPSConnection(HOST, self.port, timeout=10, context=unverified)) as connection:
            connection.request("GET", path, headers=sent)
            response = connection.getresponse()
            return response, response.read().decode()


def certify(certificate: Path, key: Path) -> None:
    """Write a certificate that vouches for itself, and its key."""
    made = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.timezone.utc)
    signed = (
        x509.CertificateBuilder(name, name, made.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(made, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key.write_bytes(made.private_bytes(serialization.Encoding.PEM, *plain))


@pytest.fixture(scope="module")
def gunicorn() -> Iterator[Gunicorn]:
    """The app of the page, on a socket as its unit says, and on a port for the tests to see that it is up."""
    programs.needed("nginx")
    server = Gunicorn("shop:app", "--workers", "2")
    server.options += ("--bind", f"unix:{server.folder / 'gunicorn.sock'}")
    (server.folder / "shop.py").write_text(block("python").replace("/var/lib/shop/", f"{server.folder}/"))
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def nginx(gunicorn) -> Iterator[Callable[[str], Nginx]]:
    started = []

    def start(server: str) -> Nginx:
        started.append(Nginx(server, gunicorn.folder / "gunicorn.sock"))
        return started[-1].start()

    yield start
    for each in started:
        each.stop()


def cookie_of(response: http.client.HTTPResponse) -> SimpleCookie:
    return SimpleCookie(response.headers["Set-Cookie"])


def test_with_the_pages_configuration_the_app_is_on_https_and_its_cookie_is_secure(nginx):
    server = nginx(block("nginx"))
    response, scheme = server.visit()
    assert (response.status, scheme) == (200, "https")
    sid = cookie_of(response)["sid"]
    assert sid["secure"]
    assert sid["httponly"]
    again, _ = server.visit(Cookie=f"sid={sid.value}")
    assert again.headers["Set-Cookie"] is None, "the session was found"


@pytest.mark.parametrize("forged", [{"X_Forwarded_Proto": "http"}, {"X_Forwarded_Host": "localhost"}])
def test_what_a_visitor_says_about_the_proxy_is_replaced(nginx, forged):
    response, scheme = nginx(block("nginx")).visit(**forged)
    assert scheme == "https"
    assert cookie_of(response)["sid"]["secure"]


def test_without_the_headers_the_cookie_is_secure_all_the_same_and_the_log_names_the_fix(nginx, gunicorn):
    without = re.sub(r"^\s*proxy_set_header .*\n", "", block("nginx"), flags=re.MULTILINE)
    response, scheme = nginx(without).visit()
    assert scheme == "http", "nobody told the app"
    assert cookie_of(response)["sid"]["secure"]
    gunicorn.wait_until(lambda: "ProxyFix" in gunicorn.log.read_text())
