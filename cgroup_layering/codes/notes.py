# SPDX-License-Identifier: LGPL-2.1-or-later
"""What changes for a service beside who pays for its memory."""

from __future__ import annotations

from cgroup_layering.codes.code import Code, Kind

NOTES = (
    Code(
        "excluded",
        Kind.EITHER,
        summary="The configuration excludes the service, or `disable` did while `auto` was on.",
        means=(
            "It stays plain unless it is named: a note if it was named or has its layer already. The sentence names "
            "the file."
        ),
        remedy="Name it, or take it out of that file; `enable` takes out what `disable` has recorded.",
        sources=("cgroup-layering.toml(5)",),
    ),
    Code(
        "hold-bad",
        Kind.NOTE,
        summary="The configuration declares persistent resources of the service that can't be taken.",
        means="The sentence names the file and line. The service is layered without them, or keeps those that it has.",
        remedy="Mend the declaration, then run `cgroup-layering update UNIT`.",
        sources=("cgroup-layering.toml(5)",),
    ),
    Code(
        "hold-tmpfs",
        Kind.NOTE,
        summary="The service gets a tmpfs that outlives its instances, and has *instance* tracking.",
        means="What an instance writes there itself is charged to that instance until it ends, then to the layer.",
        matters="First and later instances are equal only as far as their contents come from the holder (`from`).",
        remedy="Nothing is to be done; *service* tracking charges all of it to the layer at once.",
        sources=("cgroup-layering.toml(5)",),
    ),
    Code(
        "path-rule",
        Kind.EITHER,
        summary=(
            "A rule outside of systemd is keyed on the service's cgroup and would not treat the service as before one "
            "level deeper."
        ),
        means=(
            "It is a rule of nftables (`socket cgroupv2`) or iptables (`-m cgroup --path`), in force or in a file that "
            "is loaded at boot, a set that NFTSet= fills, or a bpf program that somebody attached. A note with "
            "--ignore-path-rules, and for a service that is layered already."
        ),
        matters="A firewall rule that silently stops matching is a security hole.",
        remedy="Change the rule as the sentence says, or give --ignore-path-rules if it does not matter.",
        sources=("nft(8)", "iptables-extensions(8)"),
    ),
    Code(
        "tracking",
        Kind.EITHER,
        summary="The service can't have the tracking that was asked for.",
        means=(
            "A refusal if the service was named with --tracking; a note if it was not named, and it gets the other. "
            "*service* is out of the question where the instance must keep the memory controller, *instance* where "
            "memory accounting is switched off."
        ),
        matters=(
            "The memory controller can't be kept off the instance, or somebody relies on it: a payload with "
            "Delegate=, a StartupMemory... key (which can't be reset), a drop-in that sorts behind ours, or "
            "systemd-oomd with ManagedOOM...=kill or OOMRules=."
        ),
        remedy="Take the other tracking.",
        sources=(
            "systemd.resource-control(5)",
            "src/core/cgroup.c in systemd's tree",
        ),
    ),
    Code(
        "accounting-off",
        Kind.NOTE,
        summary=(
            "The service has memory accounting switched off, so it gets *service* tracking: only its layer counts "
            "memory."
        ),
        matters="Nothing is lost, as systemd had no memory figures of the service before.",
        remedy="Nothing is to be done; `--tracking instance` counts the instance too.",
    ),
    Code(
        "changed-on-disk",
        Kind.NOTE,
        summary="The unit's files have changed since systemd read them.",
        means="The reload that layering needs takes that over too.",
        matters="The change takes effect together with the layer, as with any `systemctl daemon-reload`.",
        remedy="Look at `systemctl cat UNIT` before, if the change was not yours.",
    ),
    Code(
        "domain-charges",
        Kind.NOTE,
        summary="The service leaves a cgroup for one in another place, and charges can't move with it.",
        means="The sentence says how much is concerned.",
        matters=(
            "What the old layer holds is reclaimed once its last instance has ended; what can't be reclaimed goes to "
            "the cgroup around it."
        ),
        remedy="With --now --rehome the service's files are read in anew from inside its new layer.",
        sources=("cgroup-layering-domain(8)",),
    ),
    Code(
        "domain-slice",
        Kind.NOTE,
        summary="The service has a slice of its own, and leaves it for a domain.",
        matters="The limits and weights of that slice hold for the service no more; those of the domain do.",
        remedy="Give the domain what the slice had, or leave the service where it is.",
        sources=("systemd.slice(5)",),
    ),
    Code(
        "domain-weight",
        Kind.NOTE,
        summary="The domain weighs what its services weigh together, unless it was given a weight.",
        means="A sum over the maximum of 10000 is cut; services that are idle add nothing beside others.",
        matters=(
            "Two services of weight 100 must not become one of 100. A weight switches its controller on for all "
            "siblings of the domain."
        ),
        remedy="Nothing is to be done; `cgroup-layering domain create NAME CPUWeight=100` gives it another.",
        sources=("systemd.resource-control(5)",),
    ),
    Code(
        "no-layer-limits",
        Kind.NOTE,
        summary="The layer has no memory limits of its own, as asked with --no-layer-limits.",
        matters="What outlives instances is not bounded; in *service* tracking nothing of the service is.",
        remedy="Layer it again with --layer-limits to have the limits.",
    ),
    Code(
        "oom-policy",
        Kind.EITHER,
        summary=(
            "In *service* tracking systemd sees no OOM kill of the service, so OOMPolicy= has no effect: what is "
            "left of the service lives on."
        ),
        means=(
            "A refusal if the service was named with --tracking service and without --accept-oom-policy-loss; a note "
            "if the loss was accepted, or if the service was not named and gets *instance*. With OOMPolicy=continue "
            "it is always a note: what is left lives on in either tracking, but systemd's line about the kill is "
            "missing in the journal, and Result= does not say oom-kill."
        ),
        remedy=("Use *instance* tracking where OOMPolicy= matters, or set OOMPolicy=continue. See *risk-oom-policy*."),
        sources=('systemd.service(5), "OOMPolicy="',),
    ),
    Code(
        "oomd",
        Kind.NOTE,
        summary=(
            "In *service* tracking the service is no candidate of systemd-oomd(8), though a slice above it has "
            "ManagedOOM...=kill or OOMRules=."
        ),
        means="(Debian 12's systemd-oomd package sets that on -.slice.)",
        matters="Others may be killed in its place.",
        remedy="Use *instance* tracking.",
        sources=("systemd-oomd.service(8)",),
    ),
    Code(
        "path-rule-unclear",
        Kind.NOTE,
        summary="A rule looks at cgroups, but not which is known.",
        means=(
            "It has a set that is empty now, a variable that is not defined in the file, or a cgroup that has gone, of "
            "which nft knows only the number."
        ),
        remedy="Look at the rule that the sentence names.",
    ),
    Code(
        "path-rules-unseen",
        Kind.NOTE,
        summary="Some rules that are keyed on cgroups could not be looked for.",
        means="Root rights or a tool are missing, or it failed.",
        remedy="Run the command as root, and look at what the sentence names.",
    ),
    Code(
        "status-memory",
        Kind.NOTE,
        summary="In *service* tracking systemctl status shows no memory for the service; for the layer it does.",
        matters="Monitoring that reads MemoryCurrent of the service sees none.",
        remedy="Look at `systemctl status LAYER`, or at `cgroup-layering status UNIT`.",
        sources=("systemctl(1)",),
    ),
)
