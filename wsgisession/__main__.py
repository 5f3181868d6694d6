"""`python -m wsgisession` runs the `wsgisession` command."""

from .cli import main

if __name__ == "__main__":
    main()
