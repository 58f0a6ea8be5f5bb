"""How long a matrix product takes. Goes in: its sizes after sharding, in arrays. Comes out: seconds.

Three effects: a whole number of output tiles over a whole number of compute units (quantisation), the depth k that a tile needs to reach
full speed, and the share of the peak that large products reach.
"""

from __future__ import annotations

import numpy as np

from agora.cluster.columns import Values

TILE_ROWS, TILE_COLUMNS = 128, 128


def matmul_s(
    rows: Values, columns: Values, depth: Values, *, rate: Values, units: Values, half_depth: float, quantisation: float
) -> Values:
    """Seconds of (rows x depth) @ (depth x columns) at `rate` FLOP/s, the rate that a large product reaches.

    `half_depth`: depth at which a tile runs at half speed. `quantisation`: 0 = fractions of a wave of tiles are free (work is split
    further), 1 = the last wave costs as much as a full one.
    """
    tiles = np.ceil(rows / TILE_ROWS) * np.ceil(columns / TILE_COLUMNS)
    padded = tiles * (TILE_ROWS * TILE_COLUMNS)
    waves = np.ceil(tiles / units) * units / np.maximum(tiles, 1)
    stretch = 1 + quantisation * (waves - 1)
    return 2 * padded * (depth + half_depth * (depth > 0)) / rate * stretch
