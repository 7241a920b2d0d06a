# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a layering to the texts of its two files, through the templates in unit-templates/. Pure."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from cgroup_layering.model import Layering

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE = Path(__file__).resolve().parent
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


def text_of(template: str, **facts: object) -> str:
    """The text that another template of ours gives for `facts`."""
    return _environment().get_template(template).render(**facts)
