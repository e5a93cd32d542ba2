"""The driver and the C firmware at the ends of a bad line, in virtual time: for whoever works on the protocol."""
