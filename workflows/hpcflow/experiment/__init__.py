"""The experiment: what it may say, and how it is read."""

from hpcflow.experiment.load import Loaded, dump, load, load_resolved
from hpcflow.experiment.schema import Experiment

__all__ = ["Experiment", "Loaded", "dump", "load", "load_resolved"]
