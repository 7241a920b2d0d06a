# SPDX-License-Identifier: LGPL-2.1-or-later
"""`domain create`: make a domain, or change its settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from cgroup_layering.cli.domain import DomainWord
from cgroup_layering.cli.options import output_options, root_option, runtime_option
from cgroup_layering.cli.session import Session
from cgroup_layering.domains.files import Domain, is_domain_file, with_given
from cgroup_layering.domains.joining import OnlyUntilBoot
from cgroup_layering.domains.naming import domain_slice, outer
from cgroup_layering.domains.registry import all_domains, keep_weights, layer_settings, the_domain, weights
from cgroup_layering.domains.settings import parse_settings
from cgroup_layering.errors import CgroupLayeringError, ExitCode
from cgroup_layering.offline import installed_version
from cgroup_layering.output.tables import Output
from cgroup_layering.rooted import ForeignFile
from cgroup_layering.settling import settle
from cgroup_layering.systemd.systemctl import check_properties
from cgroup_layering.transaction import reload_quietly
from cgroup_layering.unitpaths import RUN, fragment, lookup_dirs


class OtherFolder(CgroupLayeringError):
    """A domain is there for good and was asked for until the next boot, or the other way round."""

    hint = "Delete it first, or say it the same way."

    def __init__(self, domain: Domain) -> None:
        super().__init__(domain)
        self.domain = domain

    def __str__(self) -> str:
        return f"Domain {self.domain.name} is there already, by {self.domain.file}."


@click.command("create")
@click.argument("name", type=DomainWord())
@click.argument("settings", metavar="[KEY=VALUE...]", nargs=-1)
@runtime_option
@click.option("--dry-run", is_flag=True, help="Show what would be written, and do nothing.")
@click.option("--no-reload", is_flag=True, help="Leave the daemon-reload to somebody else.")
@root_option
@output_options
def create_command(
    name: str,
    settings: tuple[str, ...],
    runtime: bool,
    dry_run: bool,
    no_reload: bool,
    root: Path,
    output: Output,
) -> int:
    """Make the domain NAME, or change the settings of one that is there.

    KEY=VALUE are limits and weights as of systemd.resource-control(5); an empty VALUE takes a setting away. A weight
    that is not given is the sum of what the domain's services weigh.
    """
    session = Session(root, runtime, "define domains", write=not dry_run)
    version = session.manager.version() if session.manager is not None else installed_version(session.root)
    wanted = parse_settings(settings, version)
    known = all_domains(session.store)
    before = known.get(name)
    if outer(name) and the_domain(session.store, outer(name)).file.parent == RUN != session.folder:
        raise OnlyUntilBoot(f"domain {name}", outer(name))
    if before is not None and before.file.parent != session.folder:
        raise OtherFolder(before)
    file = session.folder / domain_slice(name)
    if before is None:
        _check_foreign(session, file)
    if session.manager is not None and wanted:
        check_properties(file.name, [one.word for one in wanted])
    domain = with_given(before or Domain(name, file), wanted)
    known[name] = domain
    text = weights(known, layer_settings(session.store))[name][1]
    changed = before is None or before.text != text
    if dry_run:
        print(f"# {file}\n{text}", end="")
        return ExitCode.OK
    remarks = _write(session, replace(domain, text=text), before, not no_reload) if changed else []
    remarks += keep_weights(session.store, session.manager, session.fs if session.online else None, not no_reload)
    _show(domain, before, changed, remarks, output)
    return ExitCode.OK


def _check_foreign(session: Session, file: Path) -> None:
    """Raises ForeignFile where another's slice has that name already."""
    paths = session.manager.unit_path() if session.manager is not None else None
    dirs = lookup_dirs(session.root, paths) if paths is not None else lookup_dirs(session.root)
    found = fragment(file.name, dirs)
    if found is not None:
        raise ForeignFile(Path("/") / found.relative_to(session.root))


def _write(session: Session, domain: Domain, before: Domain | None, reload: bool) -> list[str]:
    """Write the file and reload; what systemd can't read is taken back."""
    session.store.check_writable(session.folder)
    session.store.write(domain.file, domain.text, is_domain_file)
    manager = session.manager
    if manager is None or not reload:
        return []
    try:
        manager.reload()
    except BaseException:
        if before is None:
            session.store.remove(domain.file, is_domain_file)
        else:
            session.store.write(domain.file, before.text, is_domain_file)
        reload_quietly(manager)
        raise
    return settle(manager, session.fs, [domain.slice])


def _show(domain: Domain, before: Domain | None, changed: bool, remarks: list[str], output: Output) -> None:
    if output.json != "off":
        given = [{"key": one.key, "value": one.value} for one in domain.given]
        document = {"domain": domain.name, "slice": domain.slice, "file": str(domain.file), "given": given}
        output.document({**document, "created": before is None, "changed": changed, "remarks": remarks})
        return
    word = "Created" if before is None else "Changed"
    output.say(f"{word} domain {domain.name} ({domain.slice})." if changed else "Nothing to change.")
    for remark in remarks:
        output.say(remark)
