"""Data sets: reading, phantoms, the packed cache, the split, the shards, the batches. NumPy only."""
