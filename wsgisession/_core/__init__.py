"""Private: how sessions work. Nothing in here is for users; the layers are described in CONTRIBUTING.md."""
