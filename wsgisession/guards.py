"""Guards around any WSGI app: `protect`, `require_user`, `require_role`, and `require_device_proof`."""

from .wsgi.guards import protect, require_device_proof, require_role, require_user

__all__ = ["protect", "require_device_proof", "require_role", "require_user"]
