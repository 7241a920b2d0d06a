# SPDX-License-Identifier: LGPL-2.1-or-later
"""The domains of a host and who is in them, as the unit files have it; and their weights, kept true."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from cgroup_layering.config.load import declared
from cgroup_layering.domains.files import Domain, domain_text, is_domain_file, read_domain, slice_settings, weighed
from cgroup_layering.domains.naming import domain_name, domain_of_layer, outer
from cgroup_layering.domains.weights import Sum
from cgroup_layering.errors import CgroupLayeringError, ExitCode
from cgroup_layering.holding.domains import Place, after, keep_holders
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.model import OwnFiles
from cgroup_layering.rooted import StoreError
from cgroup_layering.settling import settle
from cgroup_layering.store import Store
from cgroup_layering.systemd.manager import Manager
from cgroup_layering.unitpaths import ETC, RUN


class NoSuchDomain(CgroupLayeringError):
    """A domain that was named is not there."""

    exit_code = ExitCode.NO_SUCH_UNIT

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name
        self.hint = f"`cgroup-layering domain create {name}` makes it."

    def __str__(self) -> str:
        return f"There is no domain {self.name} on this host."


def all_domains(store: Store) -> dict[str, Domain]:
    """The domains by name; /etc wins over /run, as it does for systemd. Raises StoreError."""
    found: dict[str, Domain] = {}
    for folder in (RUN, ETC):
        for file in store.names(folder):
            domain = _read(store, folder / file) if domain_name(file) else None
            if domain is not None:
                found[domain.name] = domain
    return dict(sorted(found.items()))


def _read(store: Store, path: Path) -> Domain | None:
    try:
        text = store.read(path)
    except StoreError:
        return None  # a link or a folder: not a file of ours
    return read_domain(text, path) if text is not None else None


def the_domain(store: Store, name: str) -> Domain:
    """The domain of that name. Raises NoSuchDomain, StoreError."""
    found = all_domains(store).get(name)
    if found is None:
        raise NoSuchDomain(name)
    return found


def members(store: Store) -> dict[str, list[OwnFiles]]:
    """The layered services of each domain, by its name. Raises StoreError."""
    found: dict[str, list[OwnFiles]] = {}
    for _, own in sorted(store.own().items()):
        name = domain_of_layer(own.layer)
        if name and own.complete:
            found.setdefault(name, []).append(own)
    return found


def inner(domains: Iterable[str], name: str) -> list[str]:
    """The domains right inside one."""
    return [other for other in domains if outer(other) == name]


def weights(
    domains: Mapping[str, Domain], layers: Mapping[str, Iterable[Mapping[str, str]]]
) -> dict[str, tuple[Sum, str]]:
    """What each domain weighs, and the text that its file should have. Pure.

    `layers` are the settings of the layers in each domain. The innermost are first, as they weigh in those around.
    """
    found: dict[str, tuple[Sum, str]] = {}
    for name in sorted(domains, key=lambda one: -one.count("/")):
        domain = domains[name]
        nested = [slice_settings(found[other][1], domains[other].file) for other in inner(found, name)]
        total = weighed(domain, [*layers.get(name, ()), *nested])
        found[name] = total, domain_text(domain, total.lines)
    return found


def layer_settings(store: Store) -> dict[str, list[Mapping[str, str]]]:
    """The settings of the layers in each domain."""
    return {
        name: [slice_settings(own.slice_text, own.slice_file) for own in inside]
        for name, inside in members(store).items()
    }


def keep_weights(store: Store, manager: Manager | None, fs: CgroupFS | None, reload: bool = True) -> list[str]:
    """Bring weights and holders of all domains up to date with their members; sentences on what could not be.

    Whoever changed layers calls this after it; where nothing is to be done it costs a look at the files.
    """
    domains = all_domains(store)
    kept = keep_holders(store, places(store, domains), declared(store))
    remarks = after(kept, store, manager)
    changed = []
    for name, (_, text) in weights(domains, layer_settings(store)).items():
        if store.write(domains[name].file, text, is_domain_file):
            changed.append(domains[name].slice)
    if not (changed or kept.changed) or manager is None or not reload:
        return remarks
    manager.reload()
    return [*remarks, *(settle(manager, fs, changed) if fs is not None else [])]


def places(store: Store, domains: Mapping[str, Domain]) -> list[Place]:
    """Each domain with the services in it or in domains inside of it, for its holder."""
    inside = members(store)
    return [
        Place(
            name,
            domain.file,
            tuple(own.unit for other in inside if f"{other}/".startswith(f"{name}/") for own in inside[other]),
        )
        for name, domain in domains.items()
    ]
