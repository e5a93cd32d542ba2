"""``python -m hil.cli``: the same as the ``hil`` script."""

from hil.cli import main

main()
