"""Network search after NAS4CIM (doi 10.11999/JEIT250978), from its public abstract only.

Spaces and architectures, task significance (phase A), costs of whole networks, hardware significance
(phase B), Pareto fronts and retraining (phase C);
``docs/search.md`` says what is the paper's and what is our own. Knows no ports and no opcodes.
From Python, ``hil.search`` and ``hil.prune`` are the doors; everything in this package is internal.
"""
