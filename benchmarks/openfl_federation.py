"""A federation of OpenFL's own, as its manual sets one up: an aggregator and its collaborators on this machine, mTLS on
loopback, one float32 tensor, no computing. benchmarks/round_overhead.py measures it beside hpcflow's.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import peers

RUNNER = """\
import time

import numpy as np
from openfl.federated.data.loader import DataLoader
from openfl.federated.task.runner import TaskRunner
from openfl.utilities import TensorKey


class Loader(DataLoader):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)

    def get_feature_shape(self):
        return None

    def get_train_data_size(self):
        return 100

    get_valid_data_size = get_train_data_size


class Runner(TaskRunner):
    def __init__(self, data_loader, parameters=1, **kwargs):
        super().__init__(data_loader, **kwargs)
        self.weights = {"w": np.zeros(parameters, np.float32)}

    def train(self, col_name, round_num, input_tensor_dict, **kwargs):
        begun = time.time()
        self.set_tensor_dict(input_tensor_dict)
        self.weights = {name: array + np.float32(1) for name, array in self.weights.items()}
        made = {TensorKey(n, col_name, round_num, False, ("trained",)): a for n, a in self.weights.items()}
        made[TensorKey("loss", col_name, round_num, True, ("metric",))] = np.array(0.0)
        with open(f"times-{col_name}", "a") as file:
            print(begun, time.time(), file=file)
        return made, {}

    def judge(self, col_name, round_num, input_tensor_dict, **kwargs):
        return {TensorKey("score", col_name, round_num, True, ("metric", "validate_agg")): np.array(0.5)}, {}

    def get_required_tensorkeys_for_function(self, func_name, **kwargs):
        return [TensorKey(name, "GLOBAL", 0, False, ("model",)) for name in self.weights]

    def get_tensor_dict(self, with_opt_vars=False):
        return dict(self.weights)

    def set_tensor_dict(self, tensor_dict, with_opt_vars=False):
        self.weights = {name: np.asarray(tensor_dict[name]) for name in self.weights}

    def nothing(self, *args, **kwargs):
        pass

    reset_opt_vars = initialize_globals = initialize_tensorkeys_for_functions = nothing
    load_native = save_native = nothing
"""
# All that is left out is OpenFL's default.
PLAN = """\
aggregator: {{defaults: plan/defaults/aggregator.yaml, template: openfl.component.Aggregator,
  settings: {{rounds_to_train: {rounds}}}}}
collaborator: {{defaults: plan/defaults/collaborator.yaml, template: openfl.component.Collaborator}}
data_loader: {{defaults: plan/defaults/data_loader.yaml, template: src.federation.Loader}}
task_runner: {{defaults: plan/defaults/task_runner.yaml, template: src.federation.Runner,
  settings: {{parameters: {parameters}}}}}
network: {{defaults: plan/defaults/network.yaml}}
assigner: {{template: openfl.component.RandomGroupedAssigner,
  settings: {{task_groups: [{{name: learning, percentage: 1.0, tasks: [judge, train]}}]}}}}
tasks: {{judge: {{function: judge, kwargs: {{apply: global}}}}, train: {{function: train, kwargs: {{}}}}}}
compression_pipeline: {{defaults: plan/defaults/compression_pipeline.yaml}}
"""


def overheads(folder: Path, rounds: int, parameters: int, collaborators: tuple[str, ...]) -> list[float]:
    """Seconds of each round less its longest training: from the first start of an aggregator or collaborator to the
    end of all, start-up shared by the rounds as in hpcflow's figure.
    """
    fx = str(peers.environment("openfl").with_name("fx"))
    # fx starts openssl's and its own helpers by name.
    env = {**os.environ, "PATH": f"{Path(fx).parent}{os.pathsep}{os.environ['PATH']}"}

    def run(*words: str) -> None:
        subprocess.run([fx, *words], cwd=work, env=env, check=True, stdout=subprocess.DEVNULL)

    work = folder
    run("workspace", "create", "--prefix", "openfl", "--template", "no-op")
    work = folder / "openfl"
    (work / "src" / "federation.py").write_text(RUNNER)
    (work / "plan" / "plan.yaml").write_text(PLAN.format(rounds=rounds, parameters=parameters))
    run("workspace", "certify")
    run("aggregator", "generate-cert-request", "--fqdn", "localhost")
    run("aggregator", "certify", "--fqdn", "localhost", "--silent")
    run("plan", "initialize", "-a", "localhost")
    for name in collaborators:
        run("collaborator", "create", "-n", name, "-d", "1", "--silent")
        run("collaborator", "generate-cert-request", "-n", name, "--silent")
        run("collaborator", "certify", "-n", name, "--silent")
    begun = time.time()
    commands = [["aggregator", "start"], *(["collaborator", "start", "-n", name] for name in collaborators)]
    running = []
    for number, words in enumerate(commands):
        with (work / f"{number}.log").open("wb") as log:
            running.append(subprocess.Popen([fx, *words], cwd=work, env=env, stdout=log, stderr=log))
    try:
        for process in running[1:]:
            if process.wait(300):
                raise RuntimeError((work / "1.log").read_text()[-2000:])
        running[0].wait(60)
    finally:
        for process in running:
            process.kill()
    ended = time.time()
    trained = [
        [tuple(map(float, line.split())) for line in (work / f"times-{name}").read_text().splitlines()]
        for name in collaborators
    ]
    starts = [min(times[0] for times in each) for each in zip(*trained, strict=True)]
    longest = [max(end - start for start, end in each) for each in zip(*trained, strict=True)]
    marks = [begun, *starts[1:], ended]
    return [later - earlier - took for earlier, later, took in zip(marks, marks[1:], longest, strict=False)]
