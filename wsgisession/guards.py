"""Guards around any WSGI app: `protect`, `require_user`, and `require_role`."""

from .wsgi.guards import protect, require_role, require_user

__all__ = ["protect", "require_role", "require_user"]
