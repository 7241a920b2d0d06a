# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which services' files leave no question, and whom their files have them lean on."""

from __future__ import annotations

from pathlib import Path

import pytest

from cgroup_layering.telling import leans_on, tells_all
from cgroup_layering.unitfile import Setting, parse

UNIT = "a.service"
RUN = "[Service]\nExecStart=/bin/true\n"


def lines(text: str) -> tuple[Setting, ...]:
    return parse(text, Path("/etc/systemd/system", UNIT))


@pytest.mark.parametrize(
    "text",
    [
        RUN,
        f"{RUN}Type=exec\nKillMode=process\nOOMPolicy=kill\nSendSIGKILL=off\nRemainAfterExit=1\nStandardInput=tty\n",
        f"{RUN}ExecStart=\nExecStart=/bin/false\n",
        f"{RUN}Slice=web.slice\nSlice=%p.slice\n",
        f"{RUN}MemoryMax=1%\nTimeoutSec=\n",
        "[Service]\nType=dbus\nBusName=org.example\n",
        f"[Unit]\nDefaultDependencies=no\nRefuseManualStop=true\n{RUN}",
    ],
)
def test_plain_files_tell_all(text: str) -> None:
    assert tells_all(UNIT, lines(text))


@pytest.mark.parametrize(
    "text",
    [
        "[Service]\n",
        f"{RUN}ExecStart=\n",
        f"{RUN}BusName=org.example\n",
        f"{RUN}Type=\n",
        f"{RUN}Type=Simple\n",
        f"{RUN}Type=notify-reload\n",
        f"{RUN}Type=bogus\nType=simple\n",
        f"{RUN}KillMode=none #\n",
        f"{RUN}OOMPolicy=\n",
        f"{RUN}SendSIGKILL=maybe\n",
        f"{RUN}StandardInput=file:/x\n",
        f"{RUN}Delegate=no\n",
        f"{RUN}Slice=\n",
        f"{RUN}Slice=nonsense\n",
        f"{RUN}Slice=%H.slice\n",
        f"[Unit]\nSourcePath=/etc/init.d/a\n{RUN}",
        f"[Unit]\nSurviveFinalKillSignal=no\n{RUN}",
        f"[Unit]\nIgnoreOnIsolate=\n{RUN}",
    ],
)
def test_what_systemd_may_take_otherwise_is_a_question(text: str) -> None:
    assert not tells_all(UNIT, lines(text))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (RUN, set()),
        ("[Unit]\nRequires=b.service c.socket\nBindsTo=d.service\nPartOf=%p-x.service\n", {
            "b.service", "c.socket", "d.service", "a-x.service",
        }),
        ("[Unit]\nRequires=b.service\nRequires=\nBindTo=c.service\n", {"b.service", "c.service"}),
        ("[Unit]\nWants=b.service\nAfter=b.service\n[Service]\nRequires=b.service\n", set()),
        ("[Unit]\nRequires=systemd-cryptsetup@a\\x2db.service\n", {r"systemd-cryptsetup@a\x2db.service"}),
        ('[Unit]\nRequires="b.service"\n', None),
        ("[Unit]\nPartOf=%H.service\n", None),
    ],
)  # fmt: skip
def test_whom_a_service_leans_on(text: str, names: set[str] | None) -> None:
    assert leans_on(UNIT, lines(text)) == names
