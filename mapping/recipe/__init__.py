"""Recipe: what is done to a network on a chip, in order, whoever the chip is: on the wire, virtual, or counted only."""
