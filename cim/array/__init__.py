"""Physics of an array beyond its cells: wires, currents at other voltages, row drivers."""
