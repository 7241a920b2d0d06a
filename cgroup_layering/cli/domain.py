# SPDX-License-Identifier: LGPL-2.1-or-later
"""`domain`: its verbs, imported when they are called, and the names that they take."""

from __future__ import annotations

import importlib

import click
import click.shell_completion

from cgroup_layering.domains.naming import BadDomainName, domain_slice
from cgroup_layering.errors import CgroupLayeringError

VERBS = {
    "create": "Make a domain, or change its settings.",
    "add": "Put services into a domain.",
    "remove": "Take services out of a domain.",
    "show": "Show domains, who is in them, and what is charged to them.",
    "delete": "Take an empty domain away.",
}
_MODULES = {"add": "domain_members", "remove": "domain_members"}


class DomainWord(click.ParamType):
    """The name of a domain."""

    name = "NAME"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name as it is, if it can be one."""
        try:
            domain_slice(value)
        except BadDomainName as error:
            raise click.UsageError(str(error), ctx) from error
        return value

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """Domains that begin so."""
        from cgroup_layering.domains.registry import all_domains
        from cgroup_layering.store import Store

        try:
            names = [name for name in all_domains(Store()) if name.startswith(incomplete)]
        except CgroupLayeringError:
            return []
        return [click.shell_completion.CompletionItem(name) for name in names]


class DomainVerbs(click.Group):
    """The verbs by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order of the manual."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a verb, or None."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"cgroup_layering.cli.{_MODULES.get(cmd_name, f'domain_{cmd_name}')}")
        command = getattr(module, f"{cmd_name}_command")
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group("domain", cls=DomainVerbs, epilog="See cgroup-layering-domain(8).")
def command() -> None:
    """Put services that belong together into one slice, with limits and weights of its own."""
