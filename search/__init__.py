"""Network search (NAS4CIM phases); an independent implementation, not yet started.

The search itself is built on top of ``mapping`` and ``cim`` and receives measured scores
through an evaluator object, so it never knows ports or opcodes.
"""
