# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a layering to the texts of its two files, through the templates in unit-templates/. Pure."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from cgroup_layering.holding.model import Hold, Tmpfs
from cgroup_layering.holding.names import holder_name, mount_name
from cgroup_layering.model import Layering

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE = Path(__file__).resolve().parent
_PLAIN = re.compile(r"/[A-Za-z0-9/:_.@+~-]*", re.ASCII)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@cache
def _environment() -> Environment:
    # jinja2 takes a while to import, and `is-enabled`, `status` and `--help` do without it.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # Installed, the templates are beside the modules; in a checkout they are at the top level.
    folders = [_HERE / "unit_templates", _HERE.parent / "unit-templates"]
    environment = Environment(
        loader=FileSystemLoader(folders),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - unit files are no HTML
    )
    environment.filters["comment"] = lambda text: _UNPRINTABLE.sub("?", text)
    return environment


def slice_text(layering: Layering) -> str:
    """The text of the layer's slice file."""
    return _environment().get_template("layer.slice.j2").render(layering=layering)


def drop_in_text(layering: Layering) -> str:
    """The text of the service's drop-in."""
    return _environment().get_template("service-drop-in.conf.j2").render(layering=layering)


def hold_texts(layering: Layering) -> dict[str, str]:
    """The texts of the holder and of its mount units by name, in the order in which they are written."""
    if layering.hold is None:
        return {}
    return holder_texts(
        layering.hold, layering.layer, (layering.unit,), version=layering.version, part_of=True, early=layering.early
    )


def holder_texts(
    hold: Hold, layer: str, before: tuple[str, ...], *, version: str, part_of: bool, early: bool = False
) -> dict[str, str]:
    """The same for a holder in any slice, before any units; with `part_of` it ends and starts again with them."""
    holder = text_of(
        "holder.service.j2",
        hold=hold,
        slice=layer,
        before=before,
        part_of=part_of,
        early=early,
        version=version,
        mounts=[mount_name(one.path) for one in hold.tmpfs],
        folders=_folders(hold),
    )
    mounts = {
        mount_name(one.path): text_of(
            "tmpfs.mount.j2", owner=hold.owner, tmpfs=one, options=_options(one), version=version
        )
        for one in hold.tmpfs
    }
    return {holder_name(hold.owner): holder, **mounts}


def _folders(hold: Hold) -> list[str]:
    """Folders whose file systems must be there first; those of a glob as far as its text is plain."""
    found = {one.source for one in hold.tmpfs if one.source}
    for glob in hold.files:
        plain = re.split(r"[*?\[]", glob)[0].rpartition("/")[0] or "/"
        if _PLAIN.fullmatch(plain):
            found.add(plain)
    return sorted(found)


def _options(tmpfs: Tmpfs) -> str:
    """mount(8) turns names of users and groups into numbers."""
    user, _, group = tmpfs.owner.partition(":")
    owner = [f"uid={user}"] if user else []
    owner += [f"gid={group}"] if group else []
    return ",".join([f"mode={tmpfs.mode}", f"size={tmpfs.size}", *owner, "nosuid", "nodev"])


def text_of(template: str, **facts: object) -> str:
    """The text that another template of ours gives for `facts`."""
    return _environment().get_template(template).render(**facts)
