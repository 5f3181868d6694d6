"""The project as a server runs it: its database and its store are named by the environment."""

import os

from django.core.wsgi import get_wsgi_application

from tests.django_project import set_up

set_up(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATABASE"]}},
    WSGISESSION={"store": os.environ["SESSION_STORE"]},
)
application = get_wsgi_application()
