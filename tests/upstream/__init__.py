"""Other projects' test suites, run unmodified on their own sessions and then on ours: ``make upstream``.

`suites` says which, `expected` which of their tests fail and why, `environments` installs them, `running` runs one on
one store, and `table` compares and prints. Modules in ``inside/`` are imported by the suites' own interpreters.
"""
