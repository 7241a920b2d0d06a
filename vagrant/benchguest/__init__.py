# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs in the guest: what `make bench` measures there."""
