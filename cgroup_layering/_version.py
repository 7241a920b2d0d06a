# SPDX-License-Identifier: LGPL-2.1-or-later
"""The version, read by packaging and by `--version`."""

__version__ = "0.1.0"
