"""TFLite files as graphs: a reader of plain tensors and operations, and rules from operations to nodes."""
