"""A typed Django view."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from wsgisession.django import get_manager


def visits(request: HttpRequest) -> HttpResponse:
    request.session["visits"] = request.session.get("visits", 0) + 1
    request.session.set_expiry(300)
    return HttpResponse(str(request.session["visits"]))


def devices(user_id: int) -> list[str]:
    return [info.handle for info in get_manager().sessions_for(user_id)]
