"""Which examples a wheel holds. This file imports nothing, so that ``setup.py`` can run it alone."""

LEFT_OUT = ("searches", "__pycache__", "*.egg-info", "build")  # results of searches: 26 MB
PAYLOAD_NETWORK = "searches/eurosat/networks/bedf875d/net.pt"  # the one of them that a how-to begins from
