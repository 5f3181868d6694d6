"""The formats of express-session and its stores."""
