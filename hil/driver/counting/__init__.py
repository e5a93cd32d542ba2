"""A chip that only counts: the bytes of requests, and of made-up answers."""
