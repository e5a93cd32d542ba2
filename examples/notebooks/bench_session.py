# %% [markdown]
# # A session at a bench of instruments
#
# A chip without firmware, one macro of 32 x 32 cells, behind a board of DACs, switches and converters. The bench file
# says how it is wired. Its instruments are stand-ins here (NOT SILICON): leave their cell out, and put the port of a
# board into the bench file.

# %%
import re
import subprocess
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import cim
import hil
from firmware_protocols import TileAddress

# %% The chip file: ours of 128 x 128 cells, copied and made smaller; currents pass on in 16 bits
subprocess.run(["hil", "chip", "copy", "lab-128", "macro.toml"], check=True, stdout=subprocess.DEVNULL)
text = Path("macro.toml").read_text("utf-8")
for key, value in {"macros": 1, "rows": 32, "columns": 32, "rows_per_read": 32, "shared_by": 1}.items():
    text = re.sub(rf"^{key} = {{ value = \d+", f"{key} = {{ value = {value}", text, count=1, flags=re.M)
adc = text.index("[adc]")
text = text[:adc] + re.sub(r"^bits = { value = \d+", "bits = { value = 16", text[adc:], count=1, flags=re.M)
_ = Path("macro.toml").write_text(text, "utf-8")

# %% The bench file
bench = """\
format = "hil.bench"
version = "1.0"

[bench]
name = "desk 3"
chip = "macro.toml"
serial = "die 4"

[instruments.board]
model = "row-board"
port = "./board"

[wiring]
rows_at_once = 32
columns_at_once = 32

[safety]
current_a = 5e-4
off_within_s = 0.5
"""
_ = Path("bench.toml").write_text(bench, "utf-8")

# %% Stand-ins of its instruments, before an emulated chip
command = ["hil", "emulate", "--bench", "bench.toml", "--chip-seed", "7"]
stand_ins = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
print(stand_ins.stdout.readline().strip())

# %%
chip = hil.open_chip("bench:bench.toml")
print(chip.description.serial, chip.spec.name, f"{chip.spec.macro.rows} x {chip.spec.macro.columns} cells")

# %% Program 32 rows and 16 outputs by write-verify
rng = np.random.default_rng(1)
tile = TileAddress(macro=0, row0=0, rows=32, output0=0, outputs=16)
levels = rng.integers(-7, 8, (32, 16)).astype(np.int8)
written = chip.program_tile(tile, levels)
print(f"{written.pulses.sum()} pulses, {written.reached.mean():.1%} of the cells reached")

# %% Read the cells
cells_us = chip.read_cells(0, reads=16)
figure, axes = plt.subplots(figsize=(4.6, 3.4), layout="constrained")
figure.colorbar(axes.imshow(cells_us), label="conductance in µS")
axes.set_xlabel("bit line")
axes.set_ylabel("word line")
plt.show()

# %% Multiply 50 vectors of 8 bits, and compare with the integer product
codes = rng.integers(0, 256, (50, 32)).astype(np.int16)
result = chip.mvm(tile, codes, range_code=3, input_bits=8, input_signed=False)
correction = cim.nominal_correction(chip.spec.macro, 3, levels, 8, False)
sums = cim.apply_correction(result.values, codes.sum(1), correction)
ideal = codes.astype(np.int64) @ levels
print(f"R² {np.corrcoef(ideal.ravel(), sums.ravel())[0, 1] ** 2:.4f}, {result.saturated} conversions saturated")

# %%
figure, axes = plt.subplots(figsize=(4.2, 3.4), layout="constrained")
axes.plot(ideal.ravel(), sums.ravel(), ".", ms=3)
axes.set_xlabel("integer product")
axes.set_ylabel("measured by the stand-ins")
plt.show()

# %% Leave the bench: outputs off
chip.close()
stand_ins.terminate()
