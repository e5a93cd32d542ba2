"""The command line by ``python -m``, where no script of that name is on the path."""

from hil.cli import main

if __name__ == "__main__":
    main()
