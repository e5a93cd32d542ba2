"""Run the command line by ``python -m hil``, for machines where the script ``hil`` is not on the PATH."""

from hil.cli import main

if __name__ == "__main__":
    main()
