"""Device-bound sessions: a copied cookie is worthless on another machine (W3C DBSC). Experimental."""

from .options import DeviceBinding

__all__ = ["DeviceBinding"]
