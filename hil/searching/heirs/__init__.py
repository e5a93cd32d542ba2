"""A search over the heirs of one trained network (``hil search run --from``), each made in seconds and measured."""
