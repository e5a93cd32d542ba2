"""The cost model of MNSIM 2.0 restated: latency, area, power and energy on the field's common scale.

    config = load_mnsim()                                        # the simulator's default chip
    cost = estimate_mnsim(workload, with_options(config, {"ADC_Choice": 7}))

MNSIM 2.0 (Zhu et al., GLSVLSI 2020) is restated from its published equations and from numbers that
its software of 2024-11-27 gives; slips of the original are kept and called quirks.
"""

from cim.mnsim.by_component import ByComponent
from cim.mnsim.config import MnsimConfig, MnsimError
from cim.mnsim.configfile import load_mnsim, with_options
from cim.mnsim.cost import MnsimCost, MnsimLayerCost, estimate_mnsim
from cim.mnsim.networks import NETWORKS

__all__ = [
    "NETWORKS",
    "ByComponent",
    "MnsimConfig",
    "MnsimCost",
    "MnsimError",
    "MnsimLayerCost",
    "estimate_mnsim",
    "load_mnsim",
    "with_options",
]
