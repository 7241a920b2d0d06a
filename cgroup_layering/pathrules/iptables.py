# SPDX-License-Identifier: LGPL-2.1-or-later
"""What iptables-save and ip6tables-save print, also in files: rules with `-m cgroup --path`. Pure.

Such a rule matches the cgroup and all below it (net/netfilter/xt_cgroup.c, `cgroup_is_descendant`).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from cgroup_layering.model import PathRule


def parse(text: str, family: str = "", file: str = "") -> Iterator[PathRule]:
    """The rules of one text; `family` is iptables or ip6tables, `file` its path where it is a file."""
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith(("-A", "-I", "-R", "[")) and "--path" in line:
            try:
                words = shlex.split(line, posix=True)
            except ValueError:
                words = line.split()
            yield from _rule(words, line, f"{file}, line {number}" if file else f"{family} table {table}")


def _rule(words: list[str], line: str, place: str) -> Iterator[PathRule]:
    if "cgroup" not in words:
        return
    # A rule can have several matches; counters in brackets stand in front with iptables-save -c.
    for index, word in enumerate(words[:-1]):
        if word == "--path":
            path = f"/{words[index + 1].strip('/')}"
            yield PathRule("iptables", place, line.strip(), (path,), negated="!" in words[max(0, index - 1) : index])
