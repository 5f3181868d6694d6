"""Step-up: a page may ask for a bound session, and for a proof of its device that is not older than it likes."""

from __future__ import annotations

from collections.abc import Callable

from .._core.address import address_of
from ..errors import ConfigurationError
from ..session import Session
from .access import Refusal, refusal
from .environ import Environ

ProofCheck = Callable[[Session, Environ], Refusal | None]

SHORTEST = 10.0
"""The smallest ``max_age`` of a proof in seconds: it has to last until the page is loaded again."""

UNBOUND = "This page needs a session that is bound to your device. Log in again with a browser that supports this."
OLD = "Your device has to prove itself again. Load this page in the browser that you logged in with."


def proof_check(max_age: float | None = None) -> ProofCheck:
    """Return a function that returns the answer to a user whose session is not bound, or not proven lately, or None.

    :param max_age: the longest age of the proof in seconds; None for any that is good enough for other pages.
    :raises ConfigurationError: for less than 10 seconds, with which a browser would be sent round for ever.
    """
    is_number = isinstance(max_age, (int, float)) and not isinstance(max_age, bool)
    if max_age is not None and not (is_number and max_age >= SHORTEST):
        raise ConfigurationError(
            f"the max_age of a device's proof must be at least {SHORTEST:g} seconds, not {max_age!r}"
        )
    return lambda session, environ: _refusal(session, environ, max_age)


def _refusal(session: Session, environ: Environ, max_age: float | None) -> Refusal | None:
    """Refuse, or send a browser back to the same page without its second cookie, so that it proves its key on the way.

    That works for pages that are read; after a form the data would have to be sent again.
    """
    visit = session._visit
    if not session.is_bound or visit.services.devices is None:
        return refusal(403, UNBOUND, environ)
    proven_at = visit.proven_at or 0.0
    if max_age is None or visit.services.clock() - proven_at <= max_age:
        return None
    can_repeat = environ["REQUEST_METHOD"] in ("GET", "HEAD") and "HTTP_SEC_FETCH_MODE" in environ
    again = visit.services.devices.headers_to_prove_again(environ) if can_repeat else ()
    if not again:
        return refusal(401, OLD, environ)
    return Refusal(307, OLD, "text/plain; charset=utf-8", b"", location=address_of(environ), more=again)
