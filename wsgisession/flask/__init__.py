"""Sessions for Flask: `FlaskSessions`, `login_required`, and `role_required`."""

from .guards import login_required, require_device_proof, role_required
from .interface import FlaskSessions
from .sessions import FlaskSession, session

__all__ = ["FlaskSession", "FlaskSessions", "login_required", "require_device_proof", "role_required", "session"]
