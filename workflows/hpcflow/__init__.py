"""hpcflow: from one YAML file to restartable batch jobs and a table of results."""

__version__ = "0.1.0"
