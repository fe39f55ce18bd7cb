"""FirstTune's library: everything the pages do, usable without a browser."""

import os

# Before numpy is loaded, for which this is too late afterwards: its threads wait for each other by spinning,
# and where the cores are busy a product of two small matrices takes thirty times as long. Measured 2026-11.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
