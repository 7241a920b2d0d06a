# SPDX-License-Identifier: LGPL-2.1-or-later
"""Why a service is not restarted live."""

from __future__ import annotations

from cgroup_layering.codes.code import Code, Kind

DEFERRALS = (
    Code(
        "caller",
        Kind.DEFERRAL,
        summary="The service carries the session or connection that the command runs in.",
        matters="A restart would end the session, and with it the command.",
        remedy="Let it move at the next boot, or run the command from elsewhere.",
    ),
    Code(
        "changing",
        Kind.DEFERRAL,
        summary="The service is starting, stopping, reloading or between two restarts.",
        remedy="Wait until it has settled, then run the command again; or leave it to its next start.",
    ),
    Code(
        "critical",
        Kind.DEFERRAL,
        summary=(
            "The host, its storage or a person's way in hangs on the service: D-Bus, journald, logind, udevd, the "
            "network, ssh, gettys and the like."
        ),
        matters="A restart that goes wrong would cut off whoever has to mend it.",
        remedy="Boot when it suits.",
    ),
    Code(
        "early",
        Kind.DEFERRAL,
        summary="The service has DefaultDependencies=no: it belongs to early boot or late shutdown.",
        matters="It is in use by what came after it.",
        remedy="Boot when it suits.",
        sources=('systemd.unit(5), "DefaultDependencies="',),
    ),
    Code(
        "isolate",
        Kind.DEFERRAL,
        summary="The service has IgnoreOnIsolate=yes: it is meant to live through every change.",
        remedy="Boot when it suits.",
        sources=('systemd.unit(5), "IgnoreOnIsolate="',),
    ),
    Code(
        "job",
        Kind.DEFERRAL,
        summary="systemd has a job queued for the service.",
        remedy=("Wait for the job (`systemctl list-jobs`), then run the command again; or leave it to its next start."),
    ),
    Code(
        "leftovers",
        Kind.DEFERRAL,
        summary=(
            "The service has KillMode=process or none, or SendSIGKILL=no: processes that a stop leaves behind keep "
            "the old cgroup in use."
        ),
        matters="As long as one of them lives, new instances start in the old cgroup, outside the layer.",
        remedy="Boot when it suits; or stop the service, end what is left, and start it.",
        sources=("systemd.kill(5)",),
    ),
    Code(
        "no-manual",
        Kind.DEFERRAL,
        summary="The service refuses to be started or stopped by hand.",
        remedy="Boot when it suits.",
        sources=('systemd.unit(5), "RefuseManualStop="',),
    ),
    Code(
        "not-in-plan",
        Kind.DEFERRAL,
        summary="The plan that `migrate` was given does not restart this service: it has been started since.",
        remedy="Restart it when it suits, or make a new plan.",
    ),
    Code(
        "oneshot",
        Kind.DEFERRAL,
        summary="The service is Type=oneshot: a restart would run its work again, or cut it off.",
        remedy="Leave it to its next start; with RemainAfterExit=yes to the next boot.",
        sources=('systemd.service(5), "Type="',),
    ),
    Code(
        "payload",
        Kind.DEFERRAL,
        summary="The service has containers or virtual machines that a restart could end.",
        remedy="Restart it in a maintenance window, as its manual says, or boot.",
    ),
    Code(
        "propagates",
        Kind.DEFERRAL,
        summary=(
            "A restart of the service restarts another one too (PartOf=, BindsTo=, Requires=) that is not to be "
            "restarted live."
        ),
        remedy="Boot when it suits.",
        sources=('systemd.unit(5), "PartOf="',),
    ),
    Code(
        "tty",
        Kind.DEFERRAL,
        summary="The service owns a terminal.",
        matters="A restart would log out whoever sits there.",
        remedy="Boot when it suits.",
    ),
)
