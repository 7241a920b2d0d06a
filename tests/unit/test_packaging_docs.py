# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the program says and can do is in its manual: every verb, every option, every code, and no more than that."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cgroup_layering.cli.main import VERBS, cli
from cgroup_layering.codes.every import all_codes
from cgroup_layering.controls import DIRECTIVES
from cgroup_layering.doctor.checks import CHECKS
from cgroup_layering.model import ServicePlan, Verdict
from cgroup_layering.output.plans import as_json
from tests.codespage import text

TOP = Path(__file__).resolve().parents[2]
PAGES = TOP / "docs" / "reference"
SOURCES = sorted((TOP / "cgroup_layering").rglob("*.py"))
TERM = re.compile(r"^\*\*([a-z0-9-]+)\*\*$", re.MULTILINE)


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text()


def command(verb: str) -> click.Command:
    found = cli.get_command(click.Context(cli), verb)
    assert found is not None
    return found


def params(verb: str) -> list[click.Parameter]:
    """What a verb takes; for one that has verbs of its own, what these take."""
    found = command(verb)
    if not isinstance(found, click.Group):
        return found.params
    context = click.Context(found)
    inner = [found.get_command(context, name) for name in found.list_commands(context)]
    return [param for one in inner if one is not None for param in one.params]


def options(verb: str) -> set[str]:
    names = {name for parameter in params(verb) for name in (*parameter.opts, *parameter.secondary_opts)}
    return {name for name in names if name.startswith("-")}


def calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            yield node


def codes() -> set[str]:
    """The first arguments of all `Reason(...)`, also where a helper passes them on."""
    found: set[str] = set()
    trees = [ast.parse(path.read_text(), str(path)) for path in SOURCES]
    helpers: dict[str, int] = {}
    for tree in trees:
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef):
                continue
            parameters = [argument.arg for argument in function.args.args]
            for call in calls(function, "Reason"):
                first = call.args[0] if call.args else None
                if isinstance(first, ast.Constant):
                    found.add(str(first.value))
                elif isinstance(first, ast.Name) and first.id in parameters:
                    helpers[function.name] = parameters.index(first.id)
                else:
                    pytest.fail(f"{function.name}: this test can't see which code `{ast.unparse(call)}` has")
    for tree in trees:
        for name, place in helpers.items():
            passed = [call.args[place] for call in calls(tree, name) if len(call.args) > place]
            found |= {str(argument.value) for argument in passed if isinstance(argument, ast.Constant)}
    return found


def test_every_code_is_documented_and_every_documented_code_exists() -> None:
    documented = TERM.findall(page("cgroup-layering-codes.7"))
    assert len(documented) == len(set(documented))
    assert set(documented) == codes() | {check.code.name for check in CHECKS} == set(all_codes())
    assert len(documented) > 20


def test_the_page_of_codes_is_made_from_what_explain_says() -> None:
    assert page("cgroup-layering-codes.7") == text(), "run `python3 -m tests.codespage`"


def test_the_main_page_lists_all_verbs() -> None:
    text = page("cgroup-layering.8")
    for verb in VERBS:
        assert f"**cgroup-layering-{verb}**(8)" in text, verb


def test_pages_are_of_verbs_that_exist() -> None:
    pages = {path.name for path in PAGES.glob("cgroup-layering-*.8.md")}
    assert pages == {f"cgroup-layering-{verb}.8.md" for verb in VERBS}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verbs_page_has_all_its_options_and_no_others(verb: str) -> None:
    text = page(f"cgroup-layering-{verb}.8")
    headings = "\n".join(line for line in text.split("## OPTIONS", 1)[1].splitlines() if line.startswith("**-"))
    documented = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", headings))
    assert documented == options(verb) | {"-h", "--help"}


NAMED = ("UNIT", "UNIT|FILE", "CODE")


@pytest.mark.parametrize("verb", VERBS)
def test_a_verbs_page_and_help_agree_about_arguments(verb: str) -> None:
    synopsis = page(f"cgroup-layering-{verb}.8").split("## SYNOPSIS", 1)[1].split("##", 1)[0]
    expected = []
    for one in params(verb):
        if isinstance(one, click.Argument) and one.type.name in NAMED:
            word = f"*{'CODE' if one.type.name == 'CODE' else 'UNIT'}*{'...' if one.nargs < 0 else ''}"
            expected.append(word if one.required else f"[{word}]")
    found = re.findall(r"\[\*(?:UNIT|CODE)\*\.\.\.\]|\*(?:UNIT|CODE)\*(?:\.\.\.)?", synopsis)
    assert found == expected


def test_the_page_of_directives_is_the_one_that_the_table_makes() -> None:
    made = subprocess.run([sys.executable, TOP / ".ci" / "directives"], capture_output=True, text=True, check=True)
    assert made.stdout == page("cgroup-layering-directives.7"), "run `make directives`"
    assert re.findall(r"^\*\*(\w+)=\*\*$", made.stdout, re.MULTILINE) == list(DIRECTIVES)


def test_the_json_page_has_every_key_of_a_plan() -> None:
    text = page("cgroup-layering-json.7")
    for key in as_json(ServicePlan("a.service", Verdict.REFUSED, ())):
        assert f"**{key}**" in text, key
