"""What of a Dockerfile does not reach a definition: a table of patterns, by the instruction they are of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hpcflow.containers.instructions import HEREDOC, Instruction


@dataclass(frozen=True)
class Loss:
    """An instruction that does not survive: what its text looks like, what happens, whether the image is another."""

    instructions: str
    pattern: str
    what: str
    grave: bool = False


LOSSES = (
    Loss("FROM", r"--platform", "the platform is dropped (build on a node of that architecture)"),
    Loss("FROM", r"scratch\b", "an empty image cannot be a source (name a base image)", True),
    Loss("RUN", r"--\w+", "options of RUN become words of the command (remove them)", True),
    Loss("RUN", r"\[", "the list form is taken for shell text (write the command plainly)", True),
    Loss(
        "RUN COPY ADD",
        rf".*?{HEREDOC.pattern}",
        "a here-document is not understood (write a script, or its lines with printf)",
        True,
    ),
    Loss("COPY ADD", r"[^#]*\*", "patterns are expanded by Apptainer, not by Docker's rules"),
    Loss(
        "ENV", "", "holds when the image runs; commands of %post see it without `export`, their children not"
    ),
    Loss("USER", "", "is left out: all of %post is run as root, and an image as whoever starts it"),
    Loss("VOLUME", "", "becomes a comment (bind a folder by container.binds)"),
    Loss("EXPOSE", "", "becomes a comment (the image shares the node's network)"),
    Loss(
        "SHELL",
        "",
        "is left out, and %post is run by /bin/sh (write what needs another shell as a script)",
        True,
    ),
    Loss(
        "ONBUILD",
        "",
        "is left out (write what it does into the definition of the image that is built on it)",
        True,
    ),
    Loss("STOPSIGNAL", "", "becomes a comment"),
    Loss("HEALTHCHECK", "", "is left out: nothing watches over the image of a job"),
    Loss("CMD", "", "arguments of `apptainer run` are added to it, they do not take its place"),
)
TEMPLATE = "`{{` is a template of Apptainer's own definitions (write it in a script that is copied)"
STAGES = "is stage {number} of several: only the last stage that spython knows by a name is kept whole (use one FROM)"
AFTER = "this and further ones are done before every RUN: %files comes before %post (see that no RUN above replaces them)"


def losses(instructions: Sequence[Instruction]) -> Iterator[tuple[Instruction, str, bool]]:
    """What gets lost of each: the instruction, what happens to it, and whether the image is another one then."""
    stages, ran = 0, False
    for each in instructions:
        stages += each.name == "FROM"
        if each.name == "FROM" and stages > 1:
            yield each, STAGES.format(number=stages), True
        if "{{" in each.rest:
            yield each, TEMPLATE, True
        if ran and each.name in ("COPY", "ADD"):
            yield each, AFTER, False
        ran = each.name == "RUN" or (ran and each.name not in ("COPY", "ADD", "FROM"))
        for loss in LOSSES:
            if each.name in loss.instructions.split() and re.match(loss.pattern, each.rest, re.IGNORECASE):
                yield each, loss.what, loss.grave
