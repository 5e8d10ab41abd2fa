"""A Dockerfile becomes a definition; what does not survive is named with its line, and refused where it matters."""

import subprocess
from pathlib import Path

import pytest

from commands import hpcflow
from hpcflow.containers.dockerfile import convert
from hpcflow.errors import InputError

DOCKERFILE = """\
FROM debian:bookworm AS build
ENV LEVEL=3
RUN make all && \\
    make install

FROM debian:bookworm-slim
ARG VERSION
COPY --from=build /opt/tool /opt/tool
RUN --mount=type=cache,target=/c echo hello
USER nobody
CMD ["tool"]
"""

# All of it survives, in spellings that spython alone would take for something else.
PLAIN = """\
# syntax=docker/dockerfile:1
arg BASE="debian" V=12
from ${BASE}:$V as build
label a=b c="d e" \\
   # a comment
   org.x="multi"
ENV MSG hello world
ENV B="two words" C=three\\ words D='$not $(id)' E="a;b" USER=me F=${USER}s
WORKDIR /w
copy one two /srv/
COPY dir /srv/dir
ADD one /
COPY two ./deep/
run echo first >/log \\
    # a comment inside

    && echo second >>/log; \\
    add() { echo third >>/log; }; add
RUN cd / && mkdir /made # a comment behind
RUN USERNAME=x && echo "$USERNAME" >>/log
run ls >here
CMD ["cat", "/srv/a b"]
"""


def test_what_survives_is_in_the_image(system: Path, tmp_path: Path) -> None:
    """Converted into another folder and built; only the base, which no registry serves here, is another."""
    source = tmp_path / "source"
    (source / "dir" / "sub").mkdir(parents=True)
    for name in ("one", "two", "dir/sub/three"):
        (source / name).write_text(name)
    (source / "Dockerfile").write_text(PLAIN)
    definition = tmp_path / "out.def"
    done = hpcflow("container", "from-dockerfile", source / "Dockerfile", "-o", definition)
    assert done.returncode == 0, done.stderr
    text = definition.read_text()
    base = "Bootstrap: docker\nFrom: debian:12\n"
    assert base in text and "exec cat '/srv/a b' \"$@\"" in text
    definition.write_text(text.replace(base, f"Bootstrap: localimage\nFrom: {system}\n"))
    done = hpcflow("container", "build", definition, "-o", tmp_path / "box", "--sandbox")
    assert done.returncode == 0, done.stderr
    box = tmp_path / "box"
    assert (box / "log").read_text() == "first\nsecond\nthird\nx\n"
    found = ("srv/one", "srv/two", "one", "w/deep/two", "srv/dir/sub/three", "made", "w/here")
    assert [name for name in found if not (box / name).exists()] == []
    inside = ["apptainer", "--quiet", "exec", "--userns", "--cleanenv", str(box), "sh", "-c"]
    script = 'echo "$MSG|$B|$C|$D|$E|$F"'
    said = subprocess.run([*inside, script], capture_output=True, text=True, check=True).stdout
    assert said == "hello world|two words|three words|$not $(id)|a;b|mes\n"
    words = ["apptainer", "inspect", "--labels", box]
    labels = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert {"a: b", "c: d e", "org.x: multi"} <= set(labels.splitlines())


@pytest.mark.parametrize(
    ("lines", "number", "key", "what"),
    [
        ("FROM a\nRUNN b", 2, "RUNN", "is no instruction of a Dockerfile"),
        ("FROM", 1, "FROM", "has nothing after it"),
        ("RUN true\nFROM a", 1, "RUN", "stands before FROM"),
        ("FROM $X", 1, "FROM", "its image is not known here"),
        ("FROM a\nCOPY --from=ubuntu:22.04 /x /y", 2, "COPY", "another stage or image are not copied"),
        ("FROM a\nCOPY --parents x /y", 2, "COPY", "--parents is no option of %files"),
        ("FROM a\nADD --checksum=sha256:0 http://h/x /y", 2, "ADD", "--checksum is no option"),
        ("FROM a\nADD x.tar.gz /y", 2, "ADD", "is not unpacked as Docker does"),
        ("FROM a\nADD https://h/x /y", 2, "ADD", "is not fetched as Docker does"),
        ("FROM a\nCOPY x y", 2, "COPY", "its target is relative"),
        ("FROM a\nCOPY x", 2, "COPY", "needs a source and a target"),
        ("FROM a\nCOPY $X /y", 2, "COPY", "variables in file names"),
        ("FROM a\nENV X", 2, "ENV", "X has no value"),
        ("FROM a\nENV X='\"'", 2, "ENV", "a quote in a value does not survive"),
        ("FROM a\nLABEL x=$Y", 2, "LABEL", "variables in labels are not replaced"),
        ("FROM a\nWORKDIR x", 2, "WORKDIR", "is relative to the base image's"),
        ('FROM a\nSHELL ["bash"]', 2, "SHELL", "is left out"),
        ("FROM a\nRUN <<END\nRUNN\nEND\nRUN echo {{x}}", 5, "RUN", "is a template of Apptainer"),
        ("FROM a\nRUN cat <<END\nRUNN\nEND", 2, "RUN", "a here-document is not understood"),
        ("# escape=`\nFROM a\nRUN a `\n b\nONBUILD RUN c", 5, "ONBUILD", "is left out"),
    ],
)
def test_what_makes_another_image_is_refused_with_its_line(
    tmp_path: Path, lines: str, number: int, key: str, what: str
) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(f"{lines}\n")
    try:
        problems = convert(path).grave
    except InputError as error:
        problems = error.problems
    assert [(p.line, p.key) for p in problems if what in p.message] == [(number, key)], problems


def test_what_is_harmless_is_named_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text("FROM a\nRUN b\nHEALTHCHECK CMD curl x\nUSER nobody\nCOPY c /d\nEXPOSE 80\n")
    made = convert(path)
    assert made.grave == ()
    assert [problem.line for problem, _ in made.losses] == [3, 4, 5, 6]
    assert "%test" not in made.text and "su -" not in made.text


def test_losses_of_a_dockerfile_are_named_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(DOCKERFILE)
    done = hpcflow("container", "from-dockerfile", path, "-o", tmp_path / "out.def")
    assert done.returncode == 2
    assert not (tmp_path / "out.def").exists()
    lines = {line.split(": ")[1]: line for line in done.stderr.splitlines() if line.startswith(str(path))}
    assert lines["FROM"].startswith(f"{path}:6:1: FROM: is stage 2")
    assert lines["ENV"].startswith(f"{path}:2:1: ENV: ")
    assert lines["RUN"].startswith(f"{path}:9:1: RUN: options")
    assert {"ARG", "USER"} <= set(lines)
    done = hpcflow("container", "from-dockerfile", path, "--accept-losses")
    assert done.returncode == 0
    assert "From: debian:bookworm-slim" in done.stdout and "# FROM (line 6):" in done.stdout


def test_a_plain_dockerfile_becomes_a_definition(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text("FROM python:3.11-slim\nRUN pip install numpy\nWORKDIR /work\n")
    done = hpcflow("container", "from-dockerfile", path)
    assert done.returncode == 0 and done.stderr == ""
    assert "Bootstrap: docker\nFrom: python:3.11-slim" in done.stdout
    assert "%post\n" in done.stdout and "pip install numpy" in done.stdout
    path.write_text("RUN true\n")
    done = hpcflow("container", "from-dockerfile", path)
    assert done.returncode == 2 and "FROM: there is none" in done.stderr
