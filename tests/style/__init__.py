"""The style check of everything that people read: ``python -m tests.style``, which `make check` runs.

Two well-kept tools do most of it: codespell finds misspellings (it runs as its own step of `make check`), and proselint
finds clichés, redundancies, and words repeated by mistake. `words.txt` adds the wordings that this project avoids.
`text` decides which part of a file is prose.
"""
