"""Store calls as OpenTelemetry spans: `traced`."""

from .observing.tracing import traced

__all__ = ["traced"]
