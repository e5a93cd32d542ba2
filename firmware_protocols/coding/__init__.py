"""Bodies of messages in fewer bytes, for slow lines (docs/protocol.md, *Packed bodies*)."""
