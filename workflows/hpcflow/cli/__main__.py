"""`python -m hpcflow.cli`: the command where no `hpcflow` is on the PATH."""

from hpcflow.cli import main

main()
