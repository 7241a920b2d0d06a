# SPDX-License-Identifier: LGPL-2.1-or-later
"""`domain delete`: take an empty domain away, drained first."""

from __future__ import annotations

from pathlib import Path

import click

from cgroup_layering.cli.domain import DomainWord
from cgroup_layering.cli.options import output_options, root_option
from cgroup_layering.cli.removers import remover_of
from cgroup_layering.cli.session import Session
from cgroup_layering.config.load import load
from cgroup_layering.domains.files import Domain, is_domain_file
from cgroup_layering.domains.naming import domain_of_layer
from cgroup_layering.domains.registry import all_domains, inner, keep_weights, members, the_domain
from cgroup_layering.errors import CgroupLayeringError, ExitCode, KernelFileError
from cgroup_layering.formers import former_layers, remove_former
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.kernel.release import check_kernel
from cgroup_layering.lifetime.departure import Departure, Remover
from cgroup_layering.naming import slice_path, split_layer
from cgroup_layering.output.lifetimes import departure_json, log_departure, sentence
from cgroup_layering.output.tables import Output
from cgroup_layering.stopping import populated
from cgroup_layering.unitpaths import ETC_CONTROL, RUN_CONTROL, is_control


class DomainInUse(CgroupLayeringError):
    """A domain that is not empty can't be deleted."""

    def __init__(self, name: str, why: str, hint: str) -> None:
        super().__init__(name, why)
        self.name = name
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        return f"Domain {self.name} can't be deleted: {self.why}."


@click.command("delete")
@click.argument("name", type=DomainWord())
@click.option("--force", is_flag=True, help="Delete it even if too much is still charged to it.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@root_option
@output_options
def delete_command(name: str, force: bool, dry_run: bool, root: Path, output: Output) -> int:
    """Take the domain NAME away: drained, its cgroup stopped, its file removed.

    Its services have to be removed from it before, and their last instances in it to have ended.
    """
    session = Session(root, action="delete domains", write=not dry_run)
    domain = the_domain(session.store, name)
    _check_empty(session, domain)
    if dry_run:
        output.say(f"Would remove {domain.file}.")
        return ExitCode.OK
    session.store.check_writable(domain.file.parent)
    departures = _stop(session, domain, force, output)
    gone = not departures or departures[-1].gone
    remarks = _remove_files(session, domain) if gone else []
    for one in departures:
        log_departure(one)
    if output.json != "off":
        left = [departure_json(one) for one in departures]
        output.document({"domain": name, "deleted": gone, "cgroups": left, "remarks": remarks})
    for one in departures:
        (output.say if one.gone else output.complain)(sentence(one))
    if gone:
        output.say(f"Deleted domain {name}.")
        for remark in remarks:
            output.say(remark)
    return ExitCode.OK if gone else ExitCode.FAILURE


def _check_empty(session: Session, domain: Domain) -> None:
    """Raises DomainInUse where services, other domains or processes are in it."""
    name = domain.name
    units = [own.unit for own in members(session.store).get(name, [])]
    if units:
        hint = f"Run `cgroup-layering domain remove {name} {' '.join(units)}` before."
        raise DomainInUse(name, f"{', '.join(units)} {'is' if len(units) == 1 else 'are'} in it", hint)
    nested = inner(all_domains(session.store), name)
    if nested:
        raise DomainInUse(name, f"it holds the domain {nested[0]}", "Delete what is inside first.")
    if session.online and populated(session.fs, slice_path(domain.slice)):
        who = ", ".join(_inhabited(session.fs, slice_path(domain.slice))) or "something"
        raise DomainInUse(name, f"{who} still runs in it", "Restart or stop what was removed from it before.")


def _inhabited(fs: CgroupFS, cgroup: str) -> list[str]:
    """The cgroups below in which processes are, by the last part of their names."""
    found = []
    for entry in fs.walk(cgroup):
        try:
            if fs.procs(entry.path):
                found.append(entry.path.rpartition("/")[2])
        except KernelFileError:
            continue
    return found


def _stop(session: Session, domain: Domain, force: bool, output: Output) -> list[Departure]:
    """Drain and stop the layers that were left in the domain, then the domain's own cgroup."""
    cgroup = slice_path(domain.slice)
    if session.manager is None or not session.fs.exists(cgroup):
        return []
    check_kernel()
    config = load(session.store)
    remover = remover_of(session, session.manager, config, output, force=force)
    found = []
    for path in reversed([entry.path for entry in session.fs.walk(cgroup)]):
        name = path.rpartition("/")[2]
        named = split_layer(name)
        if named is not None or path == cgroup:
            what = named[0] if named is not None else domain.slice
            found.append(_gone(session, domain, remover, (name, what)))
            if not found[-1].gone:
                break
    return found


def _gone(session: Session, domain: Domain, remover: Remover, slice_of: tuple[str, str]) -> Departure:
    """Empty one slice, which takes its time and holds nobody up, and stop it. Raises DomainInUse."""
    name, what = slice_of
    with session.released():
        departure = remover.empty(name, what, "it is deleted" if name == domain.slice else "its domain is deleted")
    _check_empty(session, domain)
    if not departure.kept and not remover.stays(departure):
        remover.stop(departure)
    return departure


def _remove_files(session: Session, domain: Domain) -> list[str]:
    """Remove all that is ours of it; sentences on what stays in memory.

    The slice file, what `systemctl set-property` wrote for it, and files of layers that services left in it.
    """
    store = session.store
    for files in former_layers(store):
        if domain_of_layer(files.layer) == domain.name:
            remove_former(store, files.layer)
    store.remove(domain.file, is_domain_file)
    for folder in (ETC_CONTROL / f"{domain.slice}.d", RUN_CONTROL / f"{domain.slice}.d"):
        for name in store.names(folder):
            text = store.read(folder / name)
            if text is not None and is_control(text, folder / name):
                store.remove(folder / name, is_control)
        store.remove_folder(folder)
    if session.manager is not None:
        session.manager.reload()
    return keep_weights(store, session.manager, session.fs if session.online else None)
