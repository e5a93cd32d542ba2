"""What version 1.1 adds to the protocol: a journal and program images on the chip, and authority."""
