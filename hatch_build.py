"""Compiles the one piece of C when hpcflow is installed. Where there is no compiler hpcflow is installed all the same:
NumPy gives the same results, more slowly (workflows/hpcflow/federation/accumulator.py).
"""

import runpy
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface):
    """Beside the source, where an editable installation looks as well."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the wheel is packed."""
        native = runpy.run_path(str(Path(self.root, "workflows/hpcflow/federation/native.py")))
        try:
            library = native["build"]()
        except OSError as error:
            self.app.display_warning(f"merging updates will be slower, nothing was compiled: {error}")
            return
        build_data["artifacts"].append(f"/{library.relative_to(self.root)}")
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
