"""How a rank ends: an error in one of several ranks must end all of them.

MPI_Finalize, which mpi4py runs when Python ends, waits for the other ranks; these wait for this one in a collective. A
rank that failed alone would so keep its job, and the nodes, until the time limit. A process that is gone without it is
noticed by every launcher (mpirun and Hydra by themselves, srun by --kill-on-bad-exit), which then ends the others.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from hpcflow.placement.record import told

GRACE_S = (
    2.0  # the others may be about to say why they end, too; the launcher kills them once this one is gone
)


def end_with(main: Callable[[], int]) -> NoReturn:
    """Run ``main`` and end the process with its exit code; an exception that nobody caught is printed and is 1."""
    try:
        code = main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        if not _several():
            raise
        traceback.print_exc()
        code = 1
    if code and _several():
        sys.stdout.flush()
        sys.stderr.flush()
        time.sleep(GRACE_S)
        os._exit(code)
    sys.exit(code)


def _several() -> bool:
    return (told().size or 1) > 1
