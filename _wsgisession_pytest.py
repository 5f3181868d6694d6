"""Empty: for environments that were made while pytest was told to load this. Run ``make .venv/test`` to renew yours."""
