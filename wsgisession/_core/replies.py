"""What a decision means for the browser's cookie: the Set-Cookie header, with the session's own settings in it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..errors import ConfigurationError
from ..session import State
from .cookies import CookieOptions, expire_cookie, is_plain_loopback, set_cookie
from .decisions import Send
from .events import logger
from .ids import IDSigner
from .records import Records

_LONGEST = 1e10


class CookieWriter:
    """Writes the Set-Cookie headers of one manager.

    :param options: the manager's settings; a session may have some of its own.
    """

    def __init__(
        self, name: str, options: CookieOptions, *, signer: IDSigner, records: Records, clock: Callable[[], float]
    ) -> None:
        self.name = name
        self._options, self._signer, self._records, self._clock = options, signer, records, clock
        self._warned = False

    def options_of(self, own: dict[str, Any] | None) -> CookieOptions:
        """Return the cookie settings of a session: the manager's of today, and its own as far as they go together."""
        if not own:
            return self._options
        values = {name: getattr(self._options, name) for name in CookieOptions.__dataclass_fields__}
        try:
            return CookieOptions(**{**values, **{name: value for name, value in own.items() if name in values}})
        except ConfigurationError:  # the operator has changed the others since: no visitor's mistake
            return self._options

    def header(self, state: State, send: Send, *, scheme: str, host: str) -> str | None:
        """Return the Set-Cookie value that was decided on, or None.

        :param scheme: of the request.
        :param host: of the request.
        """
        if send is Send.NOTHING:
            return None
        options = self.options_of(state.content.cookie)
        secure = self.is_secure(options, scheme, host)
        if send is Send.EXPIRED:
            return expire_cookie(self.name, options, secure=secure)
        assert state.session_id is not None
        value = self._signer.sign(state.session_id)
        now = self._clock()
        lasts = self._lasts(state, options, now)
        header = set_cookie(self.name, value, options, secure=secure, lasts=lasts, now=now)
        priority = (state.content.cookie or {}).get("priority")  # which only Express has
        return f"{header}; Priority={priority}" if priority else header

    def _lasts(self, state: State, options: CookieOptions, now: float) -> int | None:
        """Return the Max-Age: rounded up, and never past the absolute timeout."""
        age = options.seconds
        if age is None:
            return None
        left = math.floor(min(self._records.deadline(state.content) - now, _LONGEST))
        return max(1, min(math.ceil(age), left))

    def is_secure(self, options: CookieOptions, scheme: str, host: str) -> bool:
        """Tell whether the cookie of a request is sent with Secure, and warn where a browser would refuse that."""
        plain_loopback = is_plain_loopback(scheme, host)
        secure = options.is_secure(self.name, plain_loopback=plain_loopback)
        if secure and scheme == "http" and not plain_loopback and not self._warned:
            self._warned = True
            logger.warning(
                "a Secure session cookie was sent over plain http: browsers refuse it. Serve the site over https,"
                " or let the app see that it is: wrap it in werkzeug's ProxyFix behind a proxy"
            )
        return secure
