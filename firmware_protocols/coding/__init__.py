"""Bodies of messages in fewer bytes, for slow lines (docs/file-formats.md, *Packed bodies*)."""
