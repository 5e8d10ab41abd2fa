"""The work of `hpcflow map`: an answer shown, drawn, written and verified."""

from __future__ import annotations

import json as jsonlib
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from hpcflow.errors import EXIT_DONE, EXIT_FAILED, InputError, SiteError
from hpcflow.placement import drawing
from hpcflow.placement.launchers import LaunchLine
from hpcflow.placement.launchers.detect import detect
from hpcflow.placement.mapping import Answer, lines_json
from hpcflow.placement.screen import paint, width
from hpcflow.placement.svg import svg as as_svg
from hpcflow.placement.verify import Verdict, askable
from hpcflow.placement.verify import verify as ask_mapper


def show(made: Answer, *, all_launchers: bool, verify: bool, svg: Path | None, json: bool) -> int:
    """Print the answer; the exit code, which is 1 when a launcher's mapper differs."""
    lines = made.everywhere() if all_launchers else {}
    said = None if all_launchers else made.line()
    verdict = _verify(made, made.line()) if verify else None
    if svg is not None:
        text = shlex.join(said.words() if said else [])
        whole = said is None or said.grain == "cores"
        try:
            svg.write_text(as_svg(made.rankmap, text, whole), encoding="utf-8")
        except OSError as error:
            raise InputError(f"--svg {svg}: {error.strerror}") from error
    if json:
        document = lines_json(lines) if said is None else made.to_json()
        if said is None:
            document = {
                "launchers": document,
                "notes": made.threads.lint(),
                "ranks": [place.to_json() for place in made.rankmap.ranks],
            }
        if verdict is not None:
            document["verify"] = {
                "exact": verdict.exact,
                "asked": verdict.asked,
                "differs": list(verdict.different),
            }
        print(jsonlib.dumps(document))
    else:
        _draw(made, said, lines, verdict)
    return EXIT_FAILED if verdict is not None and not verdict.exact else EXIT_DONE


def _verify(made: Answer, said: LaunchLine) -> Verdict:
    name, version = made.question.launcher, made.question.version
    askable(name)
    for item in detect(only={name}):
        if item.name == name:
            if version and not item.version.startswith(version.split(".")[0]):
                raise SiteError(
                    f"--verify: the plan is for {name} {version}, and {name} {item.version} is installed here"
                )
            return ask_mapper(name, item.version, said, made.rankmap, item.path)
    raise SiteError(f"--verify: {name} is not on PATH here")


def _draw(
    made: Answer, said: LaunchLine | None, lines: Mapping[str, LaunchLine | str], verdict: Verdict | None
) -> None:
    print(drawing.sentence(made.rankmap))
    paint(drawing.picture(made.rankmap, width(), said is None or said.grain == "cores"))
    print()
    if said is not None:
        asked = made.question
        about = f"{asked.launcher} {asked.version or ''}".strip()
        print(f"{about} ({asked.why}):" if asked.why else f"{about}:")
        _print_line(said)
    if lines:
        print("for every launcher:")
        _print_exports(made.threads.env)
    for name, one in lines.items():
        print(f"{name}:")
        if isinstance(one, str):
            print(f"  refused: {one}")
        else:
            _print_line(one, made.threads.env)
    for sentence in made.threads.lint():
        print(f"note: {sentence}", file=sys.stderr)
    if verdict is not None:
        whole = f"{verdict.launcher} {verdict.version}, asked about {verdict.asked}"
        print(f"verified: {whole}: exact" if verdict.exact else f"not verified: {whole} differs")
        for row in verdict.different:
            print(f"  {row}")


def _print_exports(env: Mapping[str, str]) -> None:
    for name, value in sorted(env.items()):
        print(f"  export {name}={shlex.quote(value)}")


def _print_line(said: LaunchLine, above: Mapping[str, str] | None = None) -> None:
    """A line with its exports; those that stand ``above`` already are left out."""
    _print_exports({name: value for name, value in said.env.items() if name not in (above or {})})
    print(f"  {said.script()}")
    for name, text in said.files.items():
        print(f"  {name}:")
        rows = text.splitlines()
        print("\n".join(f"    {row}" for row in rows[:16]))
        if len(rows) > 16:
            print(f"    ... and {len(rows) - 16} more lines")
