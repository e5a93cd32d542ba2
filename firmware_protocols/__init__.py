"""Bytes and meaning on the wire: frames, messages, the link, both roles. Does no I/O."""
