"""A small Django project: accounts, the admin, messages, a counter."""

from typing import Any

import django
from django.conf import settings


def set_up(**own: Any) -> None:
    if settings.configured:
        return
    settings.configure(**{**SETTINGS, **own})
    django.setup()


SETTINGS = {
    "DEBUG": False,
    "SECRET_KEY": "a secret of the test project's own",
    "ALLOWED_HOSTS": ["*"],
    "USE_TZ": True,
    "ROOT_URLCONF": "tests.django_project.urls",
    "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
    "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    "INSTALLED_APPS": [
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "wsgisession.django.Sessions",
    ],
    "MIDDLEWARE": [
        "wsgisession.django.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    "MESSAGE_STORAGE": "django.contrib.messages.storage.session.SessionStorage",
    "SESSION_ENGINE": "wsgisession.django",
    "WSGISESSION": {"store": "memory://"},
    "PASSWORD_HASHERS": ["django.contrib.auth.hashers.MD5PasswordHasher"],
    "TEMPLATES": [
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
}
