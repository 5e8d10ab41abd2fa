"""A rank for the tests: checks in as a training does, then says so. Arguments: rank map, bindings folder, verify.

On a made-up node HPCFLOW_FAKE_SYSFS is what its kernel tells, and HPCFLOW_FAKE_MASKS binds the local ranks anew, as a
launcher would that was told these ids.
"""

import json
import os
import sys
from pathlib import Path

from hpcflow.placement import sysfs
from hpcflow.placement.binding import PlanFile, check_in

if __name__ == "__main__":
    rankmap, bindings, verify = sys.argv[1:]
    sysfs.SYSTEM = Path(os.environ.get("HPCFLOW_FAKE_SYSFS", sysfs.SYSTEM))
    if masks := os.environ.get("HPCFLOW_FAKE_MASKS"):
        os.sched_setaffinity(0, json.loads(masks)[int(os.environ["OMPI_COMM_WORLD_LOCAL_RANK"])])
    here = check_in(Path(bindings), PlanFile(Path(rankmap)), verify)  # type: ignore[arg-type]
    shown = " ".join(f"{key}={os.environ[key]}" for key in sorted(os.environ) if "VISIBLE_DEVICES" in key)
    print(f"trains {here.rank} of {here.size} {shown}", flush=True)
