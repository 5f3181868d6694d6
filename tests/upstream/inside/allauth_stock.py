"""The settings of django-allauth's tests, on SQLite or a PostgreSQL server."""

import os
from urllib.parse import urlsplit

from tests.projects.regular.settings import *  # noqa: F403

if _url := os.environ["UPSTREAM_DATABASE"]:
    _parts = urlsplit(_url)
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": _parts.path[1:],
            "USER": _parts.username,
            "HOST": _parts.hostname,
            "PORT": _parts.port,
        }
    }
