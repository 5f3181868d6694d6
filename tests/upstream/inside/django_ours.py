"""The settings of Django's own tests, and the two that our documentation names."""

import os

from django_stock import *  # noqa: F403

SESSION_ENGINE = "wsgisession.django"
WSGISESSION = {"store": os.environ["UPSTREAM_STORE"]}
