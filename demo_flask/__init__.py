"""The demonstration: a small Flask app on server-side sessions. Run it with ``python -m demo_flask``.

`app` puts it together; `account`, `cart`, `devices`, `admin`, `live`, `inside` and `fixation` are its pages, `users` is
its table of accounts, and `receipt` counts what each page asked of the store.
"""
