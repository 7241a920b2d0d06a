# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command group: verbs are imported only when they are called."""

from __future__ import annotations

import importlib

import click

from cgroup_layering._version import __version__

VERBS = {
    "plan": "Show what would change on this host and why, without changing it.",
    "migrate": "Layer the whole host, or the named services.",
    "confirm": "Keep a migration that is on trial.",
    "rollback": "Undo the last migration.",
    "enable": "Layer services.",
    "disable": "Take services out of their layers.",
    "is-enabled": "Say whether a service is layered.",
    "cat": "Show the files that are ours for a service.",
    "status": "Show layers, instances, and what outlived former instances.",
    "verify": "Check that every promise is kept, page by page.",
    "doctor": "Look for faults of the host, drift and risks.",
    "explain": "Tell what a code means, and what to do.",
    "charges": "Show which cgroup pays for memory.",
    "rehome": "Move strays into the layers of their services.",
    "lifetime": "Show or set when the layer of a service may go.",
    "drain": "Reclaim the memory of a layer.",
    "reap": "Apply the lifetimes once.",
    "monitor": "Apply the lifetimes as things happen.",
    "history": "Show the instances of a service and what each used.",
    "update": "Bring layers up to date with units that changed.",
    "domain": "Put services that belong together into one slice with limits of its own.",
    "set-property": "Set resource-control properties of a layered service.",
}


class Verbs(click.Group):
    """Commands by name; the module of a verb is imported when it is needed (importing all costs start-up time)."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order of the manual."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a verb, or None."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"cgroup_layering.cli.{cmd_name.replace('-', '_')}")
        command = module.command
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="See cgroup-layering(8).",
)
@click.version_option(__version__, prog_name="cgroup-layering")
def cli() -> None:
    """Give every service a cgroup that outlives its restarts, and see who pays for memory."""
