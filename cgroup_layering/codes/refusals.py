# SPDX-License-Identifier: LGPL-2.1-or-later
"""Why a service stays plain."""

from __future__ import annotations

from cgroup_layering.codes.code import Code, Kind

REFUSALS = (
    Code(
        "alias",
        Kind.REFUSAL,
        summary="The name is an alias of another service.",
        remedy="Name the unit that it is an alias of.",
        sources=("systemd.unit(5)",),
    ),
    Code(
        "bad-unit",
        Kind.REFUSAL,
        summary="systemd cannot load the unit.",
        remedy="Run `systemctl status UNIT`, mend the unit, then `systemctl daemon-reload`.",
    ),
    Code(
        "concurrency",
        Kind.REFUSAL,
        summary=(
            "The service is in a slice with ConcurrencyHardMax= or ConcurrencySoftMax=: that slice counts its "
            "units, and a layer would be one more."
        ),
        matters=(
            "A layered service would count twice, and its layer also while the service is stopped: others might "
            "wait or fail to start."
        ),
        remedy="Put the service into another slice, or leave it plain.",
        sources=("systemd.slice(5)",),
    ),
    Code(
        "connection",
        Kind.REFUSAL,
        summary="The unit serves one connection of a socket with Accept=yes.",
        means="The slice that systemd makes for its template outlives it already.",
        remedy="Nothing is to be done.",
        sources=('systemd.socket(5), "Accept="',),
    ),
    Code(
        "directive",
        Kind.REFUSAL,
        summary=(
            "The unit has a resource-control setting that a layer can't keep the meaning of, or that this version "
            "does not know."
        ),
        means="The sentence names the file and line.",
        matters="The service would behave differently in its layer, or nobody knows how.",
        remedy=("Leave the service plain, take the setting out, or use a version of cgroup-layering that knows it."),
    ),
    Code(
        "foreign-file",
        Kind.REFUSAL,
        summary=(
            "A file is there under a name that we need and was not written by this program, or can't be read as one."
        ),
        means="It is never overwritten.",
        remedy="Look at the file. Move it away if it is not needed, then try again.",
    ),
    Code(
        "holder",
        Kind.REFUSAL,
        summary="The unit is a holder of ours, which makes and loads the persistent resources of a service.",
        means="It runs inside that service's layer already.",
        remedy="Nothing is to be done.",
        sources=("cgroup-layering.toml(5)",),
    ),
    Code(
        "masked",
        Kind.REFUSAL,
        summary="The unit is masked, so it never runs.",
        remedy="`systemctl unmask UNIT` first, if it is to run again.",
        sources=("systemctl(1)",),
    ),
    Code(
        "name-too-long",
        Kind.REFUSAL,
        summary="The layer's name would be longer than systemd allows; systemd would ignore such a name silently.",
        matters="A service whose Slice= is ignored runs in its default slice, and nothing says so.",
        remedy="Leave the service plain, or give it a shorter name.",
        sources=("src/core/load-fragment.c in systemd's tree",),
    ),
    Code(
        "not-found",
        Kind.REFUSAL,
        summary="The unit is referred to, but has no unit file.",
        remedy="Install the unit, or leave it.",
    ),
    Code(
        "outranked",
        Kind.REFUSAL,
        summary="A drop-in that sorts behind ours sets Slice=, so ours would have no effect.",
        matters="The last Slice= wins, so the layer would stay empty.",
        remedy="Rename the drop-in so that it sorts before *zz-cgroup-layering.conf*, or take its Slice= out.",
        sources=("systemd.unit(5)",),
    ),
    Code(
        "outside-system",
        Kind.REFUSAL,
        summary=(
            "The service lives below user.slice, machine.slice or capsule.slice: its memory belongs to users, "
            "machines or capsules."
        ),
        remedy="Nothing is to be done: only the system's services are layered.",
    ),
    Code(
        "parent-changed",
        Kind.REFUSAL,
        summary="The service is layered, but its files put it below another slice now.",
        matters="A layer's name says its place, so the service gets another layer.",
        remedy="Run `cgroup-layering update UNIT`.",
    ),
    Code(
        "slice-unclear",
        Kind.REFUSAL,
        summary="The unit's files name another slice than systemd has.",
        matters="The layer would be put below the wrong slice.",
        remedy="Run `systemctl daemon-reload`, then look at `systemctl cat UNIT`.",
    ),
    Code(
        "specifier",
        Kind.REFUSAL,
        summary=(
            "A setting that the layer has to take over has a specifier (such as %i) whose meaning can't be carried "
            "over to a slice."
        ),
        matters="In a slice %i is empty and %n is the slice's name.",
        remedy="Write the value out in a drop-in of the service.",
        sources=('systemd.unit(5), "Specifiers"',),
    ),
    Code(
        "symlink",
        Kind.REFUSAL,
        summary="A symbolic link is where our file or its folder belongs.",
        means="Nothing is ever written through one.",
        matters="Through a link of somebody else's, root would write where that one wants.",
        remedy="Remove the link, or leave the service plain.",
    ),
    Code(
        "template",
        Kind.REFUSAL,
        summary="Templates have no instance of their own; their instances are layered, one by one.",
        remedy="Name the instances: `cgroup-layering enable NAME@INSTANCE`.",
        sources=("systemd.unit(5)",),
    ),
    Code(
        "transient",
        Kind.REFUSAL,
        summary="The unit was made by systemd-run(1) or a program, has no unit file, and is gone when it stops.",
        remedy="Nothing is to be done.",
        sources=("systemd-run(1)",),
    ),
    Code(
        "unreadable",
        Kind.REFUSAL,
        summary="One of the unit's files can't be read, so its settings are not known.",
        matters="A limit that was overlooked would be lost.",
        remedy="Mend the file, or its file system, then try again.",
    ),
    Code(
        "user-session",
        Kind.REFUSAL,
        summary="user@.service and the like belong to a user's session.",
        remedy="Nothing is to be done.",
    ),
)
