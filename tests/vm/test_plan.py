# SPDX-License-Identifier: LGPL-2.1-or-later
"""A plan that asks systemd about few services is the plan that asks about all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.vm.conftest import HERE
from tests.vm.machine import GUEST, Machine

ETC = "/etc/systemd/system"
RUN = "[Service]\nExecStart=/usr/bin/sleep infinity\n"
PLAIN = {
    "plain": f"{RUN}Type=exec\nMemoryMax=64M\n",
    "plain-lent": f"{RUN}KillMode=process\nRemainAfterExit=yes\nOOMPolicy=continue\nSlice=lent-%p.slice\n",
    "plain-early": f"[Unit]\nDefaultDependencies=no\nIgnoreOnIsolate=on\n{RUN}",
    "plain-dead": f"{RUN}MemoryAccounting=no\nSendSIGKILL=off\n",
    "plain-part": f"[Unit]\nPartOf=head.service\n{RUN}KillMode=process\n",
    "plain-layered": RUN,
    "plain-pending": RUN,
    "plain-set": RUN,
}
"""Nothing is asked about these."""
ODD = {
    "head": RUN,
    "leaned": RUN,
    "odd-%i@": f"{RUN}MemoryMax=10M\n",
    "odd-kind": f"{RUN}Type=bogus\n",
    "odd-emptied": f"{RUN}OOMPolicy=kill\nOOMPolicy=\n",
    "odd-delegate": f"{RUN}Delegate=memory\n",
    "odd-slice": f"{RUN}Slice=nonsense\n",
    "odd-once": "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n",
    "odd-host": f"[Unit]\nRequires=%H.service\n{RUN}",
    "odd-slow": f"{RUN}Type=notify\nTimeoutStartSec=infinity\n",
    "odd-changed": RUN,
    "odd-aliased": f"[Install]\nAlias=odd-alias.service\n{RUN}",
    "odd-bad": "[Service]\nRestart=always\n",
}
ODD["odd@"] = ODD.pop("odd-%i@")


@pytest.fixture
def odd(fresh: Machine) -> Iterator[Machine]:
    """A host with plain services and odd ones; it is thrown away."""
    fresh.push(HERE / "guest/asked.py")
    for name, text in (PLAIN | ODD).items():
        fresh.write(f"{ETC}/{name}.service", text)
    fresh.write(f"{ETC}/odd-masked.service", "")
    fresh.ok(f"mkdir {ETC}/odd-requires.service.requires; ln -s ../leaned.service {ETC}/odd-requires.service.requires/")
    fresh.write(f"{ETC}/odd-requires.service", f"{RUN}KillMode=process\n")
    started = [name for name in (*PLAIN, *ODD) if name not in ("plain-dead", "odd@", "odd-bad", "odd-slow", "odd-host")]
    fresh.ok(f"systemctl daemon-reload; systemctl start {' '.join(started)} odd@1 odd@2 odd-requires")
    fresh.ok("systemctl start --no-block odd-slow; systemctl enable -q odd-aliased")
    fresh.ok("systemd-run -q --unit=odd-transient -p KillMode=process -p BindsTo=leaned.service sleep infinity")
    fresh.tool_ok("enable", "--now", "plain-layered", "odd-delegate")
    fresh.tool_ok("enable", "plain-pending")
    fresh.ok("systemctl set-property plain-set MemoryMax=32M")
    fresh.ok("sleep 1; systemctl daemon-reload; sleep 1")
    fresh.ok(f"echo '# changed' >> {ETC}/odd-changed.service")
    yield fresh
    fresh.restore()


@pytest.mark.long
def test_the_same_plan_without_questions(odd: Machine) -> None:
    """A change to a folder of unit files has all services asked about: no unit is different, any could be."""
    few = odd.run(f"python3 {GUEST}/asked.py")
    odd.ok(f"touch {ETC}")
    all_of_them = odd.run(f"python3 {GUEST}/asked.py")
    assert few.out == all_of_them.out
    units = {service["unit"]: service for service in json.loads(few.out)["services"]}
    asked, everything = set(few.err.split()), set(all_of_them.err.split())
    plain = {f"{name}.service" for name in PLAIN}
    assert not plain & asked
    assert plain < everything <= set(units)
    assert {f"{name}.service" for name in ODD if name != "odd@"} | {"odd@1.service", "odd-transient.service"} <= asked
    reasons = {name: [reason["code"] for reason in units[f"{name}.service"]["reasons"]] for name in ("head", "leaned")}
    assert reasons == {"head": ["propagates"], "leaned": ["propagates", "propagates"]}
    assert [note["code"] for note in units["odd-changed.service"]["notes"]] == ["changed-on-disk"]
