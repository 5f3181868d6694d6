"""The tests that are expected to fail, and why. A test of this list that passes is an error too."""

from __future__ import annotations

from collections.abc import Mapping

EVERYWHERE: Mapping[str, Mapping[str, str]] = {
    "flask": {
        "tests.test_reqctx::test_bad_environ_raises_bad_request": "needs a Werkzeug older than 3.1.4",
    },
    "flask-dance": {
        "tests.contrib.test_gitlab::test_no_verify_api_call": "needs an older requests or responses",
    },
    "flask-oidc": {
        "tests.test_flask_oidc::test_accept_token_no_token": "needs an older Authlib",
    },
}
"""Those that fail on the framework's own sessions too."""

_COUNTS_QUERIES = "counts the SQL queries of Django's own session engine"

OURS: Mapping[str, Mapping[str, str]] = {
    "flask": {
        "tests.test_basic::test_session_using_samesite_attribute": "SameSite is always sent",
        "tests.test_basic::test_session_refresh_vary": "a request that leaves the session alone does not refresh it",
    },
    "allauth": {
        **{
            f"tests.apps.headless.tokens.test_jwttokenstrategy::test_access_token_query_counts[app-{url}-True-2]": (
                _COUNTS_QUERIES
            )
            for url in ("url1", "url3")
        },
        **{
            f"tests.apps.headless.usersessions.test_activity::test_authentication_query_counts[{case}-{api}]": (
                _COUNTS_QUERIES
            )
            for case in ("False-True-2", "True-True-7")
            for api in ("headless_ninja:jwt_resource", "headless_rest_framework_jwt_resource")
        },
    },
    "django": {
        "sessions_tests.tests.SessionMiddlewareTests.test_empty_session_saved": "looks into Django's own table",
    },
    "django-wrapped": {
        "__main__.Tests.test_session_key_valid_string_saved": "the key is the one of the environ's session",
    },
}
"""Those that fail on ours: the differences that the documentation names."""


ON_POSTGRESQL: Mapping[str, Mapping[str, str]] = {
    "allauth": {
        "tests.apps.account.test_phone::test_signup_conflict": "the first user's ID must be 1, which is so on SQLite",
    },
}
"""Those that fail if the app's own data is in PostgreSQL."""


def expected_failures(suite: str, *, ours: bool, postgresql: bool = False) -> Mapping[str, str]:
    """Return the IDs of the tests that should fail, each with the reason."""
    listed = [EVERYWHERE, *([OURS] if ours else []), *([ON_POSTGRESQL] if postgresql else [])]
    return {name: reason for each in listed for name, reason in each.get(suite, {}).items()}
