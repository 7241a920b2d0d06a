# SPDX-License-Identifier: LGPL-2.1-or-later
"""The VM lab: boxes built from packages, booted by Vagrant in a network namespace of their own."""
