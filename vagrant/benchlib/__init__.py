# SPDX-License-Identifier: LGPL-2.1-or-later
"""Speed and size, measured in a VM."""
