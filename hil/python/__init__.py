"""Python in the order of work: modules and arrays in, frames and figures out.

The words are those of the command line: ``open_chip``, ``compile``, ``deploy``, ``simulate``. The packages below do the
work; here modules become network files, arrays data sets, and answers get frames and figures.
"""
