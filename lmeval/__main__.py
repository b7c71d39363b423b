"""`python -m lmeval` is the `lmeval` command."""

from lmeval.cli import main

if __name__ == "__main__":
    main()
