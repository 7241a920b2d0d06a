# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules outside of systemd that are keyed on cgroups: a layer makes the path of a service one level deeper."""
