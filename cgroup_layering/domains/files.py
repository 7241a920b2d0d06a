# SPDX-License-Identifier: LGPL-2.1-or-later
"""A domain's slice file: its text, and what can be read back from it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cgroup_layering._version import __version__
from cgroup_layering.domains.naming import domain_name
from cgroup_layering.domains.weights import KEYS, Sum, weigh
from cgroup_layering.own import facts
from cgroup_layering.properties import Assignment
from cgroup_layering.render import text_of
from cgroup_layering.unitfile import parse


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain as its file has it; `given` are the settings that somebody chose, in their order."""

    name: str
    file: Path
    given: tuple[Assignment, ...] = ()
    text: str = ""
    version: str = __version__

    @property
    def slice(self) -> str:
        """Its slice."""
        return self.file.name

    @property
    def given_keys(self) -> tuple[str, ...]:
        """The keys of `given`, each once."""
        return tuple(dict.fromkeys(one.key for one in self.given))

    @property
    def settings(self) -> dict[str, str]:
        """All settings of the slice by key."""
        return slice_settings(self.text, self.file)


def is_domain_file(text: str, path: Path) -> bool:
    """Whether a file says of itself that the tool wrote it for the domain that its name stands for."""
    name = domain_name(path.name)
    return bool(name) and facts(text, path).get("Domain") == name


def slice_settings(text: str, path: Path) -> dict[str, str]:
    """The settings of a slice file by key, as the last assignment has them."""
    return {one.key: one.value for one in parse(text, path) if one.section == "Slice" and one.value}


def read_domain(text: str, path: Path) -> Domain | None:
    """The domain that a file describes, or None where it is not ours."""
    if not is_domain_file(text, path):
        return None
    said = facts(text, path)
    keys = said.get("Given", "").split()
    given = tuple(Assignment(s.key, s.value) for s in parse(text, path) if s.section == "Slice" and s.key in keys)
    return Domain(said["Domain"], path, given, text, said.get("Version", ""))


def with_given(domain: Domain, wanted: Iterable[Assignment]) -> Domain:
    """The domain with other settings: a key that is named loses its former values, an empty value takes it away."""
    wanted = tuple(wanted)
    named = {one.key for one in wanted}
    kept = tuple(one for one in domain.given if one.key not in named)
    new: list[Assignment] = []
    for one in wanted:
        if not one.value:
            new = [other for other in new if other.key != one.key]
        else:
            new.append(one)
    return replace(domain, given=(*kept, *new))


def weighed(domain: Domain, members: Iterable[Mapping[str, str]]) -> Sum:
    """The weights of a domain with these members, less those that were given."""
    given = [key for key in domain.given_keys if key in KEYS]
    return weigh(members, given)


def domain_text(domain: Domain, weights: Mapping[str, str]) -> str:
    """The text of the slice file. The version of the tool alone is no reason to write it anew."""

    def text(version: str) -> str:
        pairs = [(one.key, one.value) for one in domain.given]
        return text_of(
            "domain.slice.j2", name=domain.name, given=pairs, keys=domain.given_keys, weights=weights, version=version
        )

    same = text(domain.version)
    return same if same == domain.text else text(__version__)
