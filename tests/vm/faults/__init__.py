# SPDX-License-Identifier: LGPL-2.1-or-later
"""The faults that a migration has to bear, their runs, and the page of their outcomes."""
