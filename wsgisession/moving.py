"""Reading the sessions of Flask-Session: `FlaskSessionRedis`."""

from .flask.carry_over import FlaskSessionRedis

__all__ = ["FlaskSessionRedis"]
