# SPDX-License-Identifier: LGPL-2.1-or-later
"""Settings of all property-based tests: a busy machine is no failure, and what passed once passes again.

`--hypothesis-profile=search` looks for new counterexamples instead: `make test-all` does.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("unit", settings.get_profile("search"), derandomize=True)
settings.load_profile("unit")
