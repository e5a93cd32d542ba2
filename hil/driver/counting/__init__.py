"""A chip that is only counted: bytes of requests, and of answers that are made up."""
