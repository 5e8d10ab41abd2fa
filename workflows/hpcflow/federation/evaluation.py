"""`flow: evaluation`: given models on everybody's validation data, each where the data is."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from hpcflow.errors import InputError
from hpcflow.federation import rounds
from hpcflow.federation.arms import judges
from hpcflow.federation.job import Here
from hpcflow.federation.plan import Plan
from hpcflow.federation.tensorfile import BadFile
from hpcflow.jobs import shell
from hpcflow.storage.publish import publish_json


def evaluate_models(here: Here) -> None:
    """Publish the metrics of each model on the data of task's collaborator. Raises InputError for what is no model
    of the experiment's.
    """
    plan = here.plan
    name = judges(plan)[here.task]
    mine = here.learner(name)
    expected = {key: array.shape for key, array in mine.initial().items()}
    found = {}
    for said in plan.rules.models:
        path = Path(shell.expand(said, os.environ))
        try:
            weights = rounds.read_tensors(path)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except (OSError, BadFile) as error:
            raise InputError(f"{path}: {error.strerror if isinstance(error, OSError) else error}") from None
        if {key: array.shape for key, array in weights.items()} != expected:
            raise InputError(f"{path} holds other tensors than {plan.experiment.training.model.name} has")
        found[said] = {"digest": digest, "metrics": mine.evaluate(weights)}
        print(f"{path} on the data of {name}: {found[said]['metrics']}", flush=True)
    if mine.leads:
        plan.run.evaluated(name).parent.mkdir(parents=True, exist_ok=True)
        publish_json(plan.run.evaluated(name), found)


def to_csv(plan: Plan) -> str:
    """A line a model and collaborator."""
    told = {name: rounds.read_object(plan.run.evaluated(name)) for name in judges(plan)}
    keys = sorted({key for found in told.values() for item in found.values() for key in item["metrics"]})
    lines = [",".join(["model", "digest", "collaborator", *keys])]
    for model in plan.rules.models:
        for name, found in told.items():
            item = found.get(model, {"digest": "", "metrics": {}})
            values = [f"{item['metrics'][key]:.6g}" if key in item["metrics"] else "" for key in keys]
            quoted = '"' + model.replace('"', '""') + '"' if set(model) & set(',"') else model
            lines.append(",".join([quoted, item["digest"], name, *values]))
    return "\n".join(lines) + "\n"
