"""The demonstration: a small Flask app on server-side sessions. Run it with ``python -m demo_flask``.

`app` puts it together. `account`, `cart`, `devices`, `admin`, `live`, `inside`, and `fixation` are its pages. `users`
is its table of accounts, `guesses` limits wrong passwords, `figures` shows the metrics, and `receipt` lists the store
calls that each page made.
"""
