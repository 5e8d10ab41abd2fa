"""A rank for the tests: checks in as a training does, then says so. Arguments: rank map, bindings folder, verify."""

import sys
from pathlib import Path

from hpcflow.placement.binding import PlanFile, check_in

if __name__ == "__main__":
    rankmap, bindings, verify = sys.argv[1:]
    here = check_in(Path(bindings), PlanFile(Path(rankmap)), verify)  # type: ignore[arg-type]
    print(f"trains {here.rank} of {here.size}", flush=True)
