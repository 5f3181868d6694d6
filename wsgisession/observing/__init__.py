"""What operators see: logs, metrics, traces, and calls into the store."""
