"""The settings of django-allauth's tests, and the two that our documentation names."""

import os

from allauth_stock import *  # noqa: F403

SESSION_ENGINE = "wsgisession.django"
WSGISESSION = {"store": os.environ["UPSTREAM_STORE"]}
