"""`python -m wsgisession` is the `wsgisession` command."""

from .cli import main

if __name__ == "__main__":
    main()
