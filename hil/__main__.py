"""``python -m hil``: the command line, where no script named hil is on the path."""

from hil.cli import main

if __name__ == "__main__":
    main()
