# SPDX-License-Identifier: LGPL-2.1-or-later
"""Give every systemd service a cgroup that outlives its restarts."""

from cgroup_layering._version import __version__

__all__ = ["__version__"]
