# SPDX-License-Identifier: LGPL-2.1-or-later
"""What removes layers, as the configuration has it, for the verbs that end some."""

from __future__ import annotations

from cgroup_layering.cli.looks import known_maps
from cgroup_layering.cli.session import Session
from cgroup_layering.config.model import Config
from cgroup_layering.lifetime.departure import Remover
from cgroup_layering.output.progress import draining
from cgroup_layering.output.tables import Output
from cgroup_layering.systemd.manager import Manager


def remover_of(
    session: Session, manager: Manager, config: Config, output: Output, *, force: bool = False, any_goes: bool = True
) -> Remover:
    """A remover that shows how draining goes on; the host's bpf maps are looked for if any layer may go at all."""
    return Remover(
        manager,
        session.fs,
        residue_bytes=config.residue_bytes,
        drain_seconds=config.drain_seconds,
        force=force,
        maps=known_maps(Output(quiet=True)) if any_goes else (),
        shown=lambda layer: draining(layer, output.quiet),
    )
