# SPDX-License-Identifier: LGPL-2.1-or-later
"""Charges for people: the tables of `charges`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cgroup_layering.charges.bpf_maps import BpfMap
from cgroup_layering.charges.contents import Contents
from cgroup_layering.charges.hostrows import HostRow, Kind
from cgroup_layering.charges.listing import FileRow, Owner
from cgroup_layering.charges.owners import Owners
from cgroup_layering.charges.scan import PageCounts
from cgroup_layering.charges.usage import Usage, UsedFile, map_owner
from cgroup_layering.kernel.pfnfile import PAGE_SIZE
from cgroup_layering.output.tables import Output
from cgroup_layering.spans import format_size

NOBODY = "no cgroup"


class Sizes:
    """Bytes as text: as numbers, or in K, M and G."""

    def __init__(self, raw: bool) -> None:
        self._raw = raw

    def __call__(self, size: int | None) -> str:
        """`size` in bytes; `n/a` for None."""
        if size is None:
            return "n/a"
        if self._raw:
            return str(size)
        return f"-{format_size(-size)}" if size < 0 else format_size(size)

    def pages(self, count: int) -> str:
        """A number of pages as bytes."""
        return self(count * PAGE_SIZE)


def who(owner: Owner) -> str:
    """The unit that pays, or what stands for none."""
    return owner.unit or NOBODY


def show_host(rows: Sequence[HostRow], left_off: int, sizes: Sizes, output: Output) -> None:
    """The table of the whole host."""
    headers = (
        "UNIT", ">FILE", ">SHMEM", ">ANON", ">KERNEL", ">UNEXPLAINED", ">CURRENT", ">SWAP", ">DYING", "WHAT",
    )  # fmt: skip
    table = (
        (
            row.unit or "(gone)", sizes.pages(row.pages.file), sizes.pages(row.pages.shmem),
            sizes.pages(row.pages.anon), sizes(row.kernel_bytes), sizes(row.unexplained_bytes),
            sizes(row.current_bytes), sizes(row.swap_bytes), str(row.dying), _what(row),
        )
        for row in rows
    )  # fmt: skip
    pages = sum((row.pages for row in rows), PageCounts())
    more = f", {left_off} more left off by --top" if left_off else ""
    output.table(headers, table, f"{len(rows)} rows{more}; {sizes.pages(pages.total)} in pages.")


def _what(row: HostRow) -> str:
    match row.kind:
        case Kind.LAYER:
            return f"layer of {row.service}" + (f", in domain {row.domain}" if row.domain else "")
        case Kind.DOMAIN:
            return f"domain {row.domain} itself"
        case Kind.SLICE:
            return "itself: charged to no living service"
        case Kind.GONE:
            return "came or went meanwhile"
    return ""


def show_files(rows: Iterable[FileRow], cgroups: Sequence[Owner], footer: str, sizes: Sizes, output: Output) -> None:
    """Files with their owners, then the sums by cgroup."""
    table = []
    for row in rows:
        resident = sizes.pages(row.resident_pages)
        if not row.owners:
            table.append((sizes(row.size_bytes), resident, "", "", row.path))
        for index, owner in enumerate(row.owners):
            first = index == 0
            table.append(
                (
                    sizes(row.size_bytes) if first else "",
                    resident if first else "",
                    sizes.pages(owner.pages),
                    who(owner),
                    row.path,
                )
            )
    output.table((">SIZE", ">RESIDENT", ">CHARGED", "TO", "FILE"), table)
    if len(table) > 1 or not table:
        if table and output.legend:
            print()
        sums = ((sizes.pages(owner.pages), who(owner), owner.cgroup) for owner in cgroups)
        output.table((">CHARGED", "TO", "CGROUP"), sums, footer)


def show_usage(usage: Usage, files: Sequence[UsedFile], owners: Owners, sizes: Sizes, output: Output) -> None:
    """What one service uses."""
    table = [
        (
            sizes.pages(used.row.resident_pages), sizes.pages(used.inside_pages), sizes.pages(used.outside_pages),
            ", ".join(sorted({who(owner) for owner in used.row.owners})), ",".join(sorted(used.uses)),
            f"yes, {len(used.shared_with)}" if used.shared_with else "",
            used.row.path + (" (deleted)" if used.deleted else ""),
        )
        for used in files
    ]  # fmt: skip
    for one in usage.maps:
        owner = map_owner(one, owners)
        table.append((sizes(one.memlock_bytes), "", "", who(owner), "bpf map", "", f"{one.id}: {one.name or one.type}"))
    strays = usage.strays()
    to_whom = "".join(f"; to {who(owner)} ({sizes.pages(owner.pages)})" for owner in strays)
    left_off = len(usage.files) - len(files)
    more = f"; {left_off} more files left off by --top" if left_off else ""
    footer = (
        f"{usage.target.unit}: {sizes.pages(usage.inside_pages)} charged to {usage.target.home or 'no cgroup'}, "
        f"{sizes.pages(sum(owner.pages for owner in strays))} strays{to_whom}; "
        f"{sizes.pages(usage.shared_pages)} of shared files charged elsewhere{more}."
    )
    headers = (">RESIDENT", ">INSIDE", ">OUTSIDE", "CHARGED TO", "USE", "SHARED", "FILE")
    output.table(headers, table, footer)


def show_maps(maps: Sequence[BpfMap], owners: Owners, sizes: Sizes, output: Output) -> None:
    """bpf maps and who pays for them."""
    rows = (
        (
            str(one.id), one.name, one.type, sizes(one.memlock_bytes), who(map_owner(one, owners)),
            ", ".join([*map(str, one.pins), *(f"process {pid}" for pid in one.pids)]),
        )
        for one in maps
    )  # fmt: skip
    output.table((">MAP", "NAME", "TYPE", ">SIZE", "CHARGED TO", "HELD BY"), rows, f"{len(maps)} bpf maps.")


def show_contents(found: Contents, top: int, sizes: Sizes, output: Output) -> None:
    """What is charged to a cgroup."""
    shown = found.largest[: top or None]
    left_off = len(found.largest) - len(shown)
    more = f" {left_off} more are left off by --top." if left_off else ""
    scope = "and all inside it" if found.recursive else "by itself"
    footer = (
        f"{found.cgroup} {scope}: {sizes(found.current_bytes)} charged; {sizes.pages(found.unnamed_pages)} of files "
        f"without a name, {sizes(found.unexplained_bytes)} not explained.{more}"
    )
    output.table((">SIZE", "KIND", "NAME"), ((sizes(one.size_bytes), one.thing, one.name) for one in shown), footer)
