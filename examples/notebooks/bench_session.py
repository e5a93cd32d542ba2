# %% [markdown]
# # A bench session with one tile
#
# Program one tile, read its cells, multiply, and compare with the integer product. The chip is an emulated one
# (NOT SILICON): put the address of a board in its place.

# %%
import numpy as np

import cim
import hil
from firmware_protocols import TileAddress

rng = np.random.default_rng(1)
chip = hil.open_chip("emulated:lab-128?seed=7&macros=1", macros=1)
print(chip.description.serial, chip.status().temperature_c)

# %% Program 32 rows and 16 outputs by write-verify
tile = TileAddress(macro=0, row0=0, rows=32, output0=0, outputs=16)
levels = rng.integers(-7, 8, (32, 16)).astype(np.int8)
written = chip.program_tile(tile, levels)
print(f"{written.pulses.sum()} pulses, {(~written.reached).sum()} cells not reached")

# %% Read the cells
cells_us = chip.read_cells(0, reads=16)
print(f"{cells_us.shape} cells, mean {cells_us[:32, :32].mean():.2f} µS in the tile")

# %% Multiply 50 vectors of 8 bits
codes = rng.integers(0, 256, (50, 32)).astype(np.int16)
result = chip.mvm(tile, codes, range_code=3, input_bits=8, input_signed=False)
correction = cim.nominal_correction(chip.spec.macro, 3, levels, 8, False)
sums = cim.apply_correction(result.values, codes.sum(1), correction)
ideal = codes.astype(np.int64) @ levels
print(f"R² {np.corrcoef(ideal.ravel(), sums.ravel())[0, 1] ** 2:.4f}, {result.saturated} conversions saturated")

# %% Leave the bench: outputs off
chip.close()
