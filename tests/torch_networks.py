"""The torch modules of ``benchmarks/torch_networks.py``, for tests."""

from .scripts import benchmark

module = benchmark("torch_networks").module
