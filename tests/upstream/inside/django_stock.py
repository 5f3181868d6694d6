"""The settings of Django's own tests."""

from test_sqlite import *  # noqa: F403

TEST_RUNNER = "recording.RecordingRunner"
