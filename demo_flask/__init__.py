"""The demonstration: a small Flask app on server-side sessions. Run it with ``python -m demo_flask``."""
