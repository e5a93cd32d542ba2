"""A search over pruned networks of one teacher (``hil search run --from``), each made in seconds and measured."""
