"""Small files as NumPy and safetensors write them, for the readers' tests.

Usage: python io.py FOLDER   (writes below FOLDER/io; NumPy 2, safetensors 0.4 or later)
"""
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

folder = Path(sys.argv[1]) / "io"
folder.mkdir(parents=True, exist_ok=True)

grid = np.arange(12).reshape(3, 4)
np.savez(
    folder / "types.npz",
    float32=(grid / 3).astype(np.float32), float64=grid / 3,
    int8=(grid - 6).astype(np.int8), int16=(grid * 1000).astype(np.int16),
    int32=(grid * 100_000).astype(np.int32), int64=grid * 10_000_000_000,
    uint8=(grid + 240).astype(np.uint8), uint16=(grid * 5000).astype(np.uint16),
    uint32=(grid * 300_000_000).astype(np.uint32),
    uint64=(grid * 10**18).astype(np.uint64), bool=grid % 2 == 0,
    scalar=np.float64(2.5), empty=np.zeros((0, 3)), fortran=np.asfortranarray(grid.astype(float)))
np.savez_compressed(
    folder / "sequences.npz",
    train_values=np.array([[1, np.nan], [3, 4], [5, 6], [7, 8], [9, 10]]),
    train_lengths=np.array([2, 3]),
    test_values=np.array([[0.5, 0.25]]), test_lengths=np.array([1], np.int32),
    train_labels=np.array([1, 2], np.int32))
np.save(folder / "cube.npy", np.arange(24, dtype=np.float32).reshape(2, 3, 4))
fortran = np.asfortranarray(np.arange(24, dtype=np.int16).reshape(2, 3, 4))
np.save(folder / "fortran.npy", fortran)
with open(folder / "version2.npy", "wb") as file:
    np.lib.format.write_array(file, np.arange(3.0), version=(2, 0))
np.save(folder / "records.npy", np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]))
np.save(folder / "big_endian.npy", np.arange(3, dtype=">f4"))
np.save(folder / "half.npy", np.arange(3, dtype=np.float16))
np.save(folder / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
save_file({"layer.weight": (grid / 3).astype(np.float32), "layer.bias": np.array([1.5, -2.5]),
           "step": np.array([7]), "scalar": np.array(3, np.float32),
           "empty": np.zeros((0, 2), np.float32)},
          folder / "weights.safetensors", metadata={"model": "vrnn", "note": 'a "quote"'})
