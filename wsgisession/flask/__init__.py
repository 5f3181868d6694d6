"""Sessions for Flask: `FlaskSessions`, `login_required`, and `role_required`."""

from .interface import FlaskSession, FlaskSessions, login_required, require_device_proof, role_required, session

__all__ = ["FlaskSession", "FlaskSessions", "login_required", "require_device_proof", "role_required", "session"]
