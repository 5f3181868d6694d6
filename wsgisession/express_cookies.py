"""The cookies of express-session: `ExpressSigner` signs and verifies them."""

from .express.cookie import ExpressSigner

__all__ = ["ExpressSigner"]
