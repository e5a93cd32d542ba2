"""ATen operations of an exported program as nodes of a graph."""
