"""`Gate`: what an adapter asks about each request, if the manager binds sessions to devices."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .._core.binding import Environ, Unproven
from .._core.services import Services
from .._core.visit import MOST_LOOKED_UP, Visit
from . import answers
from .devices import Devices
from .endpoints import Answer, Endpoints, Sought

Seek = Callable[[Environ], Sought]


class Gate:
    """Answers the endpoints, and helps browsers that could prove their key.

    :param seek: returns the session IDs of a request; if omitted, those of the manager's cookie.
    """

    def __init__(self, services: Services, *, seek: Seek | None = None) -> None:
        devices = services.devices
        if not isinstance(devices, Devices):
            raise TypeError("only a manager with device_binding has a gate")
        self._devices, self._services = devices, services
        self._endpoints = Endpoints(
            devices,
            services.records,
            events=services.events,
            seek=seek or self._seek,
            handle_of=services.signer.handle,
        )

    def at_endpoint(self, environ: Environ) -> Answer | None:
        """Return the response if the request is for one of the endpoints, or None to continue."""
        return self._endpoints.answer(environ)

    def may_help(self, environ: Environ) -> bool:
        """Tell whether `help` may have an answer, so that it is worth finding out whose session this is."""
        return answers.may_help(self._devices, environ)

    def help(self, environ: Environ, unproven: Unproven | None) -> Answer | None:
        """Return the response that lets the browser of an unproven request prove its key, or None to continue."""
        return None if unproven is None else answers.answer_for(self._devices, unproven.field, environ)

    def help_visit(self, environ: Environ, visit: Visit) -> Answer | None:
        """Do what `help` does, and look at the session only if there may be an answer.

        :raises StoreError: if the store failed.
        """
        if not self.may_help(environ):
            return None
        visit.open()
        return self.help(environ, visit.unproven)

    def _seek(self, environ: Environ) -> Sought:
        return sought(self._services, self._services.find(environ.get("HTTP_COOKIE", "")))


def sought(services: Services, values: Iterable[str]) -> Sought:
    """Return the session IDs of these cookie values."""
    shaped = [value for value in values if services.signer.has_shape(value)]
    ids = [session_id for value in shaped if (session_id := services.signer.unsign(value)) is not None]
    return Sought(ids[:MOST_LOOKED_UP], is_unreadable=len(ids) < len(shaped))
