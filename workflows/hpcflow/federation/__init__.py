"""Federated learning inside jobs: update files, aggregation, strategies, partitions. Nothing here imports TensorFlow."""
