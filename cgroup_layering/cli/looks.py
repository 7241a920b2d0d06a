# SPDX-License-Identifier: LGPL-2.1-or-later
"""The looks that `charges` takes, each as a table or as keys of a JSON document."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cgroup_layering.charges.bpf_maps import BpfMap, BpfUnavailable, bpf_maps
from cgroup_layering.charges.contents import contents, find_cgroup
from cgroup_layering.charges.host import host_charges
from cgroup_layering.charges.hostrows import HostRow, Kind, host_rows
from cgroup_layering.charges.listing import FileRow, Listing
from cgroup_layering.charges.openfile import UnreadableFile, require_regular
from cgroup_layering.charges.owners import Owners
from cgroup_layering.charges.places import DIRECTORY_PROPERTIES, own_folders
from cgroup_layering.charges.processes import Misses
from cgroup_layering.charges.usage import Target, UsedFile, usages, within
from cgroup_layering.cli.session import Session
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.model import Host
from cgroup_layering.naming import slice_path
from cgroup_layering.output import charges as show
from cgroup_layering.output.charges_json import contents_json, file_json, host_json, map_json, owner_json, usage_json
from cgroup_layering.output.progress import naming
from cgroup_layering.output.stream import Document
from cgroup_layering.output.tables import Output
from cgroup_layering.systemd.manager import SERVICE

ROWS = 50
"""Rows of a table of files, unless --top says otherwise."""
SHOWN_MISSES = 5


@dataclass(frozen=True)
class View:
    """How to look and to show; `top` is None where nothing was said, `sort` is empty then."""

    fs: CgroupFS
    output: Output
    document: Document | None
    top: int | None
    sort: str
    sizes: show.Sizes

    @property
    def _rows(self) -> int:
        """Rows of files to print; 0 is all of them."""
        if self.top is not None:
            return self.top
        return 0 if self.document else ROWS

    def host(self) -> None:
        """The whole host."""
        charges = host_charges(self.fs)
        rows = [
            row
            for row in host_rows(charges)
            if row.kind in (Kind.LAYER, Kind.DOMAIN) or row.pages.total or row.current_bytes
        ]
        rows.sort(key=_HOST_SORTS[self.sort or "size"])
        chosen = rows[: self.top or None]
        if self.document:
            self.document.add(host_json(charges, chosen))
        else:
            show.show_host(chosen, len(rows) - len(chosen), self.sizes, self.output)

    def paths(self, paths: Sequence[Path]) -> None:
        """Files, and what lies below folders."""
        for path in paths:
            _check(path)
        listing = Listing(Owners.scan(self.fs))
        found: Iterator[FileRow] = listing.rows(paths)
        if self.document:
            ordered = found if not (self.sort or self.top) else iter(self._chosen(found))
            self.document.add_list("files", (file_json(row) for row in ordered))
            sums = [{**owner_json(owner)} for owner in listing.cgroups()]
            self.document.add({"cgroups": sums, **_listing_json(listing)})
        else:
            several = len(paths) > 1 or paths[0].is_dir()
            # Of a tree, what is not in memory has no owner to show; it is counted below.
            rows = self._chosen(row for row in found if row.resident_pages or not several)
            show.show_files(rows, listing.cgroups(), self._summary(listing, len(rows)), self.sizes, self.output)
        self._tell(listing.misses)

    def _chosen(self, rows: Iterator[FileRow]) -> list[FileRow]:
        def key(row: FileRow) -> tuple[int, str]:
            return (0 if self.sort == "name" else -row.resident_pages, row.path)

        return heapq.nsmallest(self._rows, rows, key=key) if self._rows else sorted(rows, key=key)

    def _summary(self, listing: Listing, shown: int) -> str:
        raced = f", {listing.raced_pages} pages came or went meanwhile" if listing.raced_pages else ""
        return f"{listing.files} files, {shown} shown; {self.sizes.pages(listing.resident_pages)} in memory{raced}."

    def _tell(self, misses: Misses) -> None:
        for sentence in misses.unreadable[:SHOWN_MISSES]:
            self.output.complain(sentence)
        if len(misses.unreadable) > SHOWN_MISSES:
            self.output.complain(f"{len(misses.unreadable) - SHOWN_MISSES} more files could not be looked at.")
        if misses.vanished:
            self.output.say(f"{misses.vanished} files were gone when it was their turn.")

    def services(self, session: Session, units: Sequence[str]) -> None:
        """All that services use."""
        targets = service_targets(session, units)
        found = usages(targets, self.fs, known_maps(self.output))
        owners = Owners.scan(self.fs)
        if self.document:
            self.document.add_list("services", (usage_json(usage, self._used(usage.files), owners) for usage in found))
            return
        for index, usage in enumerate(found):
            if index:
                print()
            show.show_usage(usage, self._used(usage.files), owners, self.sizes, self.output)
            strays = sum(owner.pages for owner in usage.strays())
            self.output.say(f"{usage.target.unit}: {self.sizes.pages(strays)} of its own files are strays.")
            self._tell(Misses(usage.vanished, usage.unreadable))

    def _used(self, files: Sequence[UsedFile]) -> list[UsedFile]:
        by_name = self.sort == "name"
        ordered = sorted(files, key=lambda used: (0 if by_name else -used.row.resident_pages, used.row.path))
        return ordered[: self._rows or None]

    def cgroups(self, words: Sequence[str], paths: Sequence[Path]) -> None:
        """What is charged to cgroups."""
        chosen = [find_cgroup(word, self.fs) for word in words]
        maps = known_maps(self.output)
        with naming(self.output.quiet) as progress:
            found = [contents(cgroup, self.fs, paths, maps, progress) for cgroup in chosen]
        if self.document:
            self.document.add_list("contents", (contents_json(one, self._rows) for one in found))
            return
        for index, one in enumerate(found):
            if index:
                print()
            show.show_contents(one, self._rows, self.sizes, self.output)

    def maps(self) -> None:
        """All bpf maps. Raises BpfUnavailable."""
        maps, owners = bpf_maps(), Owners.scan(self.fs)
        if self.document:
            self.document.add_list("bpf_maps", (map_json(one, owners) for one in maps))
        else:
            show.show_maps(maps[: self.top or None], owners, self.sizes, self.output)


_HOST_SORTS: dict[str, Callable[[HostRow], tuple[int, str]]] = {
    "size": lambda row: (-row.weight_bytes, row.cgroup),
    "name": lambda row: (0, row.unit),
    "file": lambda row: (-row.pages.file, row.cgroup),
    "shmem": lambda row: (-row.pages.shmem, row.cgroup),
    "anon": lambda row: (-row.pages.anon, row.cgroup),
    "swap": lambda row: (-(row.swap_bytes or 0), row.cgroup),
}


def folders_of(session: Session, host: Host, units: Iterable[str]) -> dict[str, tuple[Path, ...]]:
    """The folders of services: what their units name, and where their processes work."""
    units = tuple(units)
    assert session.manager is not None  # noqa: S101 - callers have no --root
    props = session.manager.properties(units, SERVICE, tuple(DIRECTORY_PROPERTIES))
    found = {}
    for unit in units:
        group = host.services[unit].control_group
        pids = session.fs.procs_recursive(group) if group and session.fs.exists(group) else []
        found[unit] = tuple(own_folders(props[unit], pids))
    return found


def known_maps(output: Output) -> tuple[BpfMap, ...]:
    """The bpf maps, or none and a sentence that says why."""
    try:
        return bpf_maps()
    except BpfUnavailable as error:
        output.say(f"bpf maps are left out: {error}")
        return ()


def service_targets(session: Session, units: Sequence[str]) -> list[Target]:
    """What to look at for the named services: layers where they are layered, their own cgroups where not."""
    host = session.read(units, follow_aliases=True)
    folders = folders_of(session, host, host.services)
    targets = []
    for unit, facts in host.services.items():
        layer = slice_path(facts.own.layer) if facts.own is not None else ""
        running = facts.control_group if facts.control_group and session.fs.exists(facts.control_group) else ""
        home = layer if layer and session.fs.exists(layer) else running
        targets.append(Target(unit, home, folders[unit], running="" if within(running, home) else running))
    return targets


def _check(path: Path) -> None:
    """Errors in what was named come before the first line of output."""
    try:
        status = path.lstat()
    except OSError as error:
        raise UnreadableFile(path, error.strerror or "unknown error") from error
    if not path.is_dir() or path.is_symlink():
        require_regular(path, status.st_mode)


def _listing_json(listing: Listing) -> dict[str, object]:
    return {
        "file_count": listing.files,
        "resident_pages": listing.resident_pages,
        "raced_pages": listing.raced_pages,
        "vanished": listing.misses.vanished,
        "unreadable": listing.misses.unreadable,
    }


@contextmanager
def documented(output: Output) -> Iterator[Document | None]:
    """A JSON document to fill, or None where tables are wanted."""
    if output.json == "off":
        yield None
        return
    with Document(output.json) as document:
        yield document
