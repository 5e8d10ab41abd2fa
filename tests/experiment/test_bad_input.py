"""Every kind of bad input, through the command itself: the place to the column, and the words a user reads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# What stands in a file -> the lines that `hpcflow validate` prints of it, less the name of the file.
HEAD = "name: a\ntraining: {data: {phantom: {}}}\n"
CASES: dict[str, tuple[str, list[str]]] = {
    "empty": ("", ["1:1: expected keys and values (as in `name: my-experiment`)"]),
    "only a comment": ("# nothing\n", ["1:1: expected keys and values (as in `name: my-experiment`)"]),
    "a list": ("- name\n", ["1:1: expected keys and values (as in `name: my-experiment`)"]),
    "two documents": (
        HEAD + "---\nname: b\n",
        ["3:1: this is not YAML: expected a single document in the stream but found another document"],
    ),
    "not YAML": (
        HEAD + "storage: {data: [}\n",
        [
            "3:18: this is not YAML: while parsing a flow node expected the node content, but found '}'",
        ],
    ),
    "a tab": (
        HEAD + "storage:\n\truns: x\n",
        [
            "4:1: this is not YAML: while scanning for the next token found character '\\t' that cannot start any token"
        ],
    ),
    "a bell": (
        HEAD + "description: a\x07b\n",
        ["3:15: the character U+0007 may not stand in YAML (remove it)"],
    ),
    "a line separator of another alphabet": (
        HEAD + 'description: "a\\Nb"\n',
        ["3:14: description: holds the control character U+0085, which could break a script (remove it)"],
    ),
    "an impossible escape": (
        HEAD + 'description: "\\UFFFFFFFF"\n',
        ["1:1: this is not YAML: an escape or a number is out of range"],
    ),
    "nested without end": ("a: " + "[" * 3000, ["1:1: the YAML is nested too deeply"]),
    "an alias in itself": (HEAD + "storage: &s {data: *s}\n", ["1:1: the YAML is nested too deeply"]),
    "an alias bomb": (
        "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)),
        ["1:1: more than 50000 values once its aliases are expanded"],
    ),
    "a merge bomb of nothing": (
        "a0: &a0 {}\n"
        + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12)),
        ["1:1: more than 50000 values once its aliases are expanded"],
    ),
    "a key twice": (
        HEAD + "resources:\n  nodes: 1\n  nodes: 2\n",
        ["5:3: resources.nodes: this key stands here twice (first in line 4; keep one)"],
    ),
    "a key twice beside wrong values": (
        "name: a\ntraining: {data: {phantom: {}}}\nname: b\nresources: {nodes: two}\n",
        [
            "3:1: name: this key stands here twice (first in line 1; keep one)",
            "4:20: resources.nodes: expected a whole number, not 'two'",
        ],
    ),
    "checks of several keys beside wrong ones": (
        "name: a\nenvironment: {modules: [3], variables: {OMP_NUM_THREADS: 4}}\n"
        'training: {epochs: "3", strategy: single, data: {phantom: {}, crop: [33, 32, 32]}}\nresources: {nodes: 2}\n',
        [
            '2:25: environment.modules.0: expected text, not 3 (quote it: "3")',
            "2:58: environment.variables.OMP_NUM_THREADS: say it as threads.omp, where hpcflow takes it from",
            "3:20: training.epochs: expected a whole number, not '3'",
            "3:35: training.strategy: `single` is one process, and more than one rank is asked for (say horovod)",
            "3:70: training.data.crop.0: 33 is no multiple of 8, and a model of depth 4 halves it 3 times "
            "(for example 32)",
        ],
    ),
    "a check that may be about the wrong key keeps still": (
        HEAD.replace("{phantom: {}}", "{phantom: {}, crop: [36, 36, 36]}, model: {depth: three}"),
        ["2:68: training.model.depth: expected a whole number, not 'three'"],
    ),
    "what phantoms do not have": (
        "name: a\ntraining: {data: {phantom: {shape: [32, 4, 600]}, crop: [16, 16, 16]}}\n",
        [
            "2:41: training.data.phantom.shape.1: expected 8 or more, not 4",
            "2:44: training.data.phantom.shape.2: expected 512 or less, not 600",
        ],
    ),
    "names that phantoms do not have": (
        "name: a\ntraining: {data: {phantom: {}, modalities: [flair, FLAR, 4], target: [1, 7]}}\n",
        [
            "2:52: training.data.modalities.1: phantoms have no modality FLAR (they have 0 FLAIR, 1 T1w, 2 t1gd, 3 T2w)",
            "2:58: training.data.modalities.2: phantoms have no modality 4 (they have 0 FLAIR, 1 T1w, 2 t1gd, 3 T2w)",
            "2:74: training.data.target.1: phantoms have no label 7 (they have 1, 2 and 3)",
        ],
    ),
    "a merge of text": (
        HEAD + "storage: {<<: x}\n",
        ["3:15: storage: `<<` merges a mapping (an alias such as *defaults)"],
    ),
    "a key that is a list": (HEAD + "? [a]\n: 1\n", ["3:3: a key must be a plain word"]),
    "a tag of Python": (
        HEAD + "description: !!python/object/apply:os.system [id]\n",
        [
            "3:14: description: the tag !!python/object/apply:os.system is not taken here (write a plain value)"
        ],
    ),
    "a tag that lies": (
        HEAD + "resources: {nodes: !!int many}\n",
        ["3:20: resources.nodes: the tag !!int is not taken here (write a plain value)"],
    ),
    "two wrong keys": (
        HEAD + "resourses: {nodes: 2}\nplacement: {ranks_per_sockets: 1}\n",
        [
            "3:1: resourses: there is no such key (did you mean `resources`?)",
            "4:13: placement.ranks_per_sockets: there is no such key (did you mean `ranks_per_socket`?)",
        ],
    ),
    "a key of another section": (
        HEAD + "epochs: 3\n",
        ["3:1: epochs: there is no such key here (did you mean `training.epochs`?)"],
    ),
    "a key with a newline": (
        HEAD + '"a\\nb": 1\n',
        ["3:1: a\\nb: there is no such key (nearest: `name`; known: "],
    ),
    "no name": ("training: {data: {phantom: {}}}\n", ["1:1: name: this key is missing"]),
    "a name with a slash": (
        "name: a/b c\ntraining: {data: {phantom: {}}}\n",
        ["1:7: name: `a/b c` is no name: letters, digits and ._- only, at most 64 (for example `a-b-c`)"],
    ),
    "the name `last`": (
        "name: last\ntraining: {data: {phantom: {}}}\n",
        ["1:7: name: `last` stands for the latest run wherever a run is named (choose another name)"],
    ),
    "a name that is a number": (
        "name: 42\ntraining: {data: {phantom: {}}}\n",
        ['1:7: name: expected text, not 42 (quote it: "42")'],
    ),
    "a newline in a name": (
        'name: "a\\n#SBATCH --uid=0"\ntraining: {data: {phantom: {}}}\n',
        [
            "1:7: name: `a\\n#SBATCH --uid=0` is no name: letters, digits and ._- only, at most 64 (for example "
        ],
    ),
    "octal, plus and underscores": (
        HEAD + "resources: {nodes: 010}\ntraining_: 1\nplacement: {ranks: +4, cores_per_rank: 1_0}\n",
        [
            "3:20: resources.nodes: expected a whole number, not '010'",
            "4:1: training_: there is no such key (did you mean `training`?)",
            "5:20: placement.ranks: expected a whole number, not '+4'",
            "5:40: placement.cores_per_rank: expected a whole number or 'auto', not '1_0'",
        ],
    ),
    "`yes` is text": (
        HEAD + "placement: {smt: yes}\n",
        ["3:18: placement.smt: expected true or false, not 'yes'"],
    ),
    "`no` is text": (
        HEAD + "resources: {exclusive: no}\n",
        ["3:24: resources.exclusive: expected true or false, not 'no'"],
    ),
    "true is no number": (
        "name: a\ntraining: {learning_rate: true, epochs: 1.5, data: {phantom: {}}}\n",
        [
            "2:27: training.learning_rate: expected a number, not true",
            "2:41: training.epochs: expected a whole number, not 1.5",
        ],
    ),
    "not finite": (
        "name: a\ntraining: {learning_rate: .inf, data: {phantom: {}}}\n",
        ["2:27: training.learning_rate: expected a finite number, not .inf"],
    ),
    "a version without quotes": (
        HEAD + "placement: {launcher_version: 5.10}\n",
        ['3:31: placement.launcher_version: expected text, not 5.10 (quote it: "5.10")'],
    ),
    "times": (
        HEAD + "resources: {time: 1h}\n",
        [
            '3:19: resources.time: `1h` is no time that Slurm reads (for example "00:30:00", "1-12:00:00", or 30 for '
            "minutes)"
        ],
    ),
    "a time of zero": (
        HEAD + "resources: {time: 00:00:00}\n",
        ["3:19: resources.time: a time limit of zero ends the job at once (for example 30 for minutes)"],
    ),
    "memory": (
        HEAD + "resources: {memory: 16 GB}\n",
        [
            "3:21: resources.memory: `16 GB` is no size of memory (for example 16G; without a unit it is MiB)",
        ],
    ),
    "too many nodes": (
        HEAD + "resources: {nodes: 100000}\n",
        ["3:20: resources.nodes: expected 65536 or less, not 100000"],
    ),
    "two counts of ranks": (
        HEAD + "placement: {ranks_per_node: 2, ranks_per_socket: 1}\n",
        [
            "3:50: placement.ranks_per_socket: the number of ranks is said by ranks_per_node already (keep one of them)",
        ],
    ),
    "control characters in paths": (
        HEAD + 'storage: {runs: "/x\\n/y", data: "/a\\tb", cache: "a\\u2028b"}\n',
        [
            "3:17: storage.runs: holds the control character U+000A, which could break a script (remove it)",
            "3:33: storage.data: holds the control character U+0009, which could break a script (remove it)",
            "3:49: storage.cache: holds the control character U+2028, which could break a script (remove it)",
        ],
    ),
    "sbatch flags": (
        HEAD
        + "resources:\n  extra: [-N2, --nodes=2, --job-nam=x, --mem=4G, --clusters=b, '--mail-type END']\n",
        [
            "4:11: resources.extra.0: `-N2` is no long flag of sbatch (for example --mail-type=END)",
            "4:16: resources.extra.1: hpcflow writes --nodes itself (say it by its own key, see `hpcflow schema`)",
            "4:27: resources.extra.2: sbatch would read --job-nam as --job-name (spell flags out)",
            "4:40: resources.extra.3: say --mem as resources.memory",
            "4:50: resources.extra.4: with --clusters there would be no job that hpcflow can follow (remove it)",
            "4:64: resources.extra.5: `--mail-type END` is no long flag of sbatch (for example --mail-type=END)",
        ],
    ),
    "variables that are not the user's": (
        HEAD
        + "environment:\n  variables: {SLURM_JOB_ID: 1, PMIX_RANK: 0, HPCFLOW_RUN: /x, BASH_ENV: /x, UID: 0, a-b: 1}\n",
        [
            "4:15: environment.variables.SLURM_JOB_ID: SLURM_JOB_ID may not be set here: Slurm sets it for every job "
            "(use the keys of `resources` and `placement`)",
            "4:32: environment.variables.PMIX_RANK: PMIX_RANK may not be set here: the launcher sets it for every rank",
            "4:46: environment.variables.HPCFLOW_RUN: HPCFLOW_RUN may not be set here: hpcflow sets it in every job",
            "4:63: environment.variables.BASH_ENV: BASH_ENV may not be set here: the job's script is run by bash, which "
            "uses it itself",
            "4:77: environment.variables.UID: UID may not be set here: it means something to bash itself",
            "4:85: environment.variables.a-b: `a-b` is no name of an environment variable",
        ],
    ),
    "variables with keys of their own": (
        HEAD + "environment:\n  variables: {OMP_NUM_THREADS: 4, PATH: /x:$PATH}\n",
        [
            "4:32: environment.variables.OMP_NUM_THREADS: say it as threads.omp, where hpcflow takes it from",
            "4:41: environment.variables.PATH: is exported as it stands, without expanding $NAME (write it out, or "
            "load a module)",
        ],
    ),
    "a module that is an option": (
        HEAD + "environment: {modules: [--force]}\n",
        ["3:25: environment.modules.0: `--force` would be read as an option of `module load`"],
    ),
    "a section without keys": (
        HEAD + "storage:\n",
        ["3:9: storage: expected keys and values, not nothing"],
    ),
    "no data": (
        "name: a\nstorage: {runs: x}\n",
        ["2:10: storage: no data: name a folder in storage.data, or let training.data.phantom make phantoms"],
    ),
    "the crop": (
        "name: a\ntraining:\n  data: {phantom: {shape: [32, 32, 8]}, crop: [20, 64, 8]}\n",
        [
            "3:48: training.data.crop.0: 20 is no multiple of 8, and a model of depth 4 halves it 3 times (for example "
            "16)",
            "3:52: training.data.crop.1: the crop of 64 is larger than the phantoms (32)",
        ],
    ),
    "a zip of two lengths, and a condition that is none": (
        HEAD
        + 'sweep:\n  exclude: ["training.batch_size >"]\n'
        + "  zip: {training.learning_rate: [0.1, 0.2], training.batch_size: [1]}\n",
        [
            "4:13: sweep.exclude.0: this is no comparison",
            "5:66: sweep.zip.training.batch_size: 1 values, and training.learning_rate has 2",
        ],
    ),
    "one process and several ranks": (
        "name: a\nresources: {nodes: 2}\ntraining: {strategy: single, data: {phantom: {}}}\n",
        [
            "3:22: training.strategy: `single` is one process, and more than one rank is asked for (say horovod)"
        ],
    ),
}


def validate(*words: str | Path, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "hpcflow.cli", "validate", *map(str, words)]
    env = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=env, timeout=120)


def test_every_kind_of_bad_input(tmp_path: Path) -> None:
    """One call for all: each problem on a line of its own, in the order of the files, and nothing else."""
    files = {case: tmp_path / f"{number:02}.yaml" for number, case in enumerate(CASES)}
    for case, path in files.items():
        path.write_text(CASES[case][0], encoding="utf-8")
    result = validate(*files.values())
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    for case, path in files.items():
        lines = [line for line in result.stderr.splitlines() if line.startswith(str(path))]
        said = [line.removeprefix(f"{path}:") for line in lines]
        expected = CASES[case][1]
        assert len(said) == len(expected), (case, said)
        for line, start in zip(said, expected, strict=True):
            assert line.startswith(start), case


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe4\n")
    (tmp_path / "folder.yaml").mkdir()
    good = tmp_path / "a b;$(x)'\".yaml"
    good.write_text(HEAD)
    result = validate("none.yaml", "latin.yaml", "folder.yaml", good.name, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == f"{good.name}: ok\n"
    assert result.stderr.splitlines() == [
        "folder.yaml: this is a directory (name the YAML file in it)",
        "latin.yaml: this is not UTF-8 text",
        "none.yaml: there is no such file",
    ]


def test_what_is_legal_and_inert(tmp_path: Path) -> None:
    """Blanks, quotes, $(), ; and the traps of YAML 1.1 that are no traps here."""
    path = tmp_path / "a.yaml"
    path.write_text(
        "name: a.b_c-1\n"
        "description: |\n  two lines\n  of text\n"
        "resources: {time: 12:30, partition: no, constraint: 'ib&(a|b)', extra: ['--comment=a \"b\" $(id); c']}\n"
        "storage: {data: '/a b/$(id)/;\"quoted\"/$USER/${HOME}', runs: ~/runs}\n"
        "environment: {modules: [gcc/12.2], variables: {X: 1.10, Y: '', Z: '$(id)\"', PATH: '/usr/bin:/bin'}}\n"
        "threads: {env: {OMP_NUM_THREADS: 3}}\n"
    )
    result = validate(path)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{path}: ok\n", "")


def test_sets_are_checked_like_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(HEAD)
    wrong = {
        "resources.time=0": "1:16: resources.time: a time limit of zero ends the job at once (for example 30 for "
        "minutes)",
        "resources.node=2": "2:1: resources.node: there is no such key (did you mean `nodes`?)",
        "placement={smt: yes}": "3:17: placement.smt: expected true or false, not 'yes'",
        "resources.nodes=010": "4:17: resources.nodes: expected a whole number, not '010'",
        'name="a\nb"': "5:6: name: `a b` is no name: letters, digits and ._- only, at most 64 (for example `a-b`)",
        "resources.extra=[--wrap=x]": "6:18: resources.extra.0: hpcflow writes --wrap itself (say it by its own key, "
        "see `hpcflow schema`)",
        "resources.memory=": "7:18: resources.memory: `` is no size of memory (for example 16G; without a unit "
        "it is MiB)",
    }
    result = validate(path, *[word for text in wrong for word in ("--set", text)])
    assert result.returncode == 2
    assert result.stderr.splitlines() == [f"--set:{line}" for line in wrong.values()]


def test_a_list_that_may_be_a_number_is_judged_as_a_list(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("name: a\nflow: federated\ntraining: {model: {name: digits}}\nfederation:\n  rounds: 1\n")
    typo = validate(path, "--set", "federation.collaborators=[{name: b}, {name: c, resources: {acount: x}}]")
    assert typo.stderr.splitlines() == [
        "--set:1:60: federation.collaborators.1.resources.acount: there is no such key (did you mean `account`?)"
    ]
    neither = validate(path, "--set", "federation.collaborators=x")
    assert "expected a list or a whole number, not 'x'" in neither.stderr


def test_sets_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(HEAD)
    wrong = {
        "nonsense\n": "1:1: nonsense\\n: expected dotted.key=value (as in resources.nodes=4)",
        "=1": "2:1: =1: expected dotted.key=value (as in resources.nodes=4)",
        "a..b=1": "3:1: a..b=1: expected dotted.key=value (as in resources.nodes=4)",
        "name=[1": "4:8: name: this is not YAML: ",
        "description=!!python/name:os.system x": "5:13: description: the tag !!python/name:os.system is not taken here",
        "placement.reserve={cores: 1, cores: 2}": "6:30: placement.reserve.cores: this key stands here twice",
        "description=\x07": "7:13: description: the character U+0007 may not stand in YAML",
    }
    result = validate(path, *[word for text in wrong for word in ("--set", text)])
    assert result.returncode == 2
    said = result.stderr.splitlines()
    assert len(said) == len(wrong)
    for line, start in zip(said, wrong.values(), strict=True):
        assert line.startswith(f"--set:{start}")


def test_errors_of_all_layers_at_once(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("name: s\nengin: slurm\ndefaults:\n  resources: {partitions: x}\n")
    (tmp_path / "a.yaml").write_text(HEAD + "resources: {nodes: no}\n")
    result = validate("a.yaml", "a.yaml", "--site", "./site.yaml", "--set", "training.epochs=x", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        "--set:1:17: training.epochs: expected a whole number, not 'x'",
        "a.yaml:3:20: resources.nodes: expected a whole number, not 'no'",
        "site.yaml:2:1: engin: there is no such key (did you mean `engine`?)",
        "site.yaml:4:15: resources.partitions: there is no such key (did you mean `partition`?)",
    ]
    result = validate("a.yaml", "--site", "nowhere", cwd=tmp_path)
    assert result.stderr.splitlines()[0].startswith("--site: nowhere: there is no such profile (looked for ")


def test_a_profile_names_launchers_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(
        "name: s\nlaunchers: {OpenMPI: '9.9', srunn: x, slurm: y, mpich: '4'}\n"
    )
    (tmp_path / "a.yaml").write_text(HEAD)
    assert validate("a.yaml", "--site", "./site.yaml", cwd=tmp_path).stderr.splitlines() == [
        "site.yaml:2:22: launchers.OpenMPI: there is no such launcher (did you mean `openmpi`?)",
        "site.yaml:2:36: launchers.srunn: there is no such launcher (did you mean `srun`?)",
        "site.yaml:2:46: launchers.slurm: there is no such launcher (known: openmpi, intelmpi, mpich, srun, horovodrun)",
    ]


def test_json_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(HEAD)
    (tmp_path / "b.yaml").write_text(HEAD + "nodes: 1\n")
    result = validate("--json", "a.yaml", "b.yaml", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (2, "")
    assert json.loads(result.stdout) == {
        "files": [
            {"file": "a.yaml", "ok": True, "problems": [], "notes": []},
            {
                "file": "b.yaml",
                "ok": False,
                "problems": [
                    {
                        "file": "b.yaml",
                        "line": 3,
                        "column": 1,
                        "key": "nodes",
                        "message": "there is no such key here (did you mean `resources.nodes`?)",
                    }
                ],
                "notes": [],
            },
        ]
    }
    assert validate("--json", "a.yaml", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    "config", sorted(Path(__file__).parents[2].joinpath("configs").glob("*.yaml")), ids=str
)
def test_the_examples_are_valid(config: Path) -> None:
    assert validate(config).returncode == 0
