"""Server-side sessions for any WSGI app, for Flask and for Django."""
