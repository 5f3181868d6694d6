"""A store that passes every verb on to another one: for those that change a few of them."""

from __future__ import annotations

from typing import Any

from wsgisession.stores import Store


class PassingStore(Store):
    def __init__(self, inner: Store) -> None:
        self.inner = inner

    @classmethod
    def from_url(cls, url: Any) -> PassingStore:
        raise TypeError("it wraps a store, and has no URL")

    def load(self, handle, **options):
        return self.inner.load(handle, **options)

    def create(self, handle, record, **options):
        return self.inner.create(handle, record, **options)

    def replace(self, handle, record, **options):
        return self.inner.replace(handle, record, **options)

    def touch(self, handle, **options):
        return self.inner.touch(handle, **options)

    def delete(self, handle, **options):
        return self.inner.delete(handle, **options)

    def find_user(self, user_id, **options):
        return self.inner.find_user(user_id, **options)

    def delete_user(self, user_id, **options):
        return self.inner.delete_user(user_id, **options)

    def scan(self, **options):
        return self.inner.scan(**options)

    def purge(self, **options):
        return self.inner.purge(**options)

    def close(self):
        self.inner.close()
