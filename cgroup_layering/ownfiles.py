# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which layerings and which drop-ins of ours the files below a root hold."""

from __future__ import annotations

from pathlib import Path

from cgroup_layering.holding.names import holder_name, mount_name
from cgroup_layering.model import OwnFiles
from cgroup_layering.naming import split_layer
from cgroup_layering.own import DROP_IN, boot_link, declaration, drop_in_path, facts, is_ours, read_back
from cgroup_layering.rooted import Rooted, StoreError
from cgroup_layering.unitpaths import ETC, RUN


class OwnReader(Rooted):
    """Files below a root, and what of them is ours."""

    def own(self) -> dict[str, OwnFiles]:
        """All layerings that our files describe, by unit; a complete one wins, then /etc over /run."""
        found: dict[str, OwnFiles] = {}
        for own in self.all_own():
            if own.unit not in found or (own.complete and not found[own.unit].complete):
                found[own.unit] = own
        return found

    def own_of(self, layer: str) -> OwnFiles | None:
        """The layering that a layer's files describe now, as `own` has it."""
        found = [own for folder in (ETC, RUN) if (own := self._read_own(folder / layer)) is not None]
        return next((own for own in found if own.complete), found[0] if found else None)

    def all_own(self) -> list[OwnFiles]:
        """What each slice file of ours describes: also one that a service left, whose drop-in leads elsewhere now."""
        found = []
        for folder in (ETC, RUN):
            for name in self.names(folder):
                own = self._read_own(folder / name) if split_layer(name) is not None else None
                if own is not None:
                    found.append(own)
        return found

    def _read_own(self, path: Path) -> OwnFiles | None:
        try:
            text = self.read(path)
        except StoreError:
            # Not a file of ours then; whoever wants to write here is told.
            return None
        if text is None:
            return None
        own = read_back(path, text, None)
        if own is None:
            return None
        drop_in = self.own_drop_in(drop_in_path(path.parent, own.unit))
        if drop_in is not None and f"Slice={path.name}" not in drop_in.splitlines():
            drop_in = None
        return read_back(path, text, drop_in, self.has_link(boot_link(path), path), self.held(path.parent, own.unit))

    def held(self, folder: Path, owner: str) -> tuple[tuple[Path, str], ...]:
        """Our holder of a service or domain in a folder, and the mount units that its declaration names; with texts."""
        holder = folder / holder_name(owner)
        text = self._own_unit(holder, owner)
        if text is None:
            return ()
        hold = declaration(text, holder)
        mounts = [folder / mount_name(one.path) for one in hold.tmpfs] if hold is not None else []
        found = [(path, self._own_unit(path, owner)) for path in mounts]
        return ((holder, text), *((path, known) for path, known in found if known is not None))

    def _own_unit(self, path: Path, owner: str) -> str | None:
        """The text of a unit file that says of itself that it is ours and this owner's."""
        try:
            text = self.read(path)
        except StoreError:
            return None
        return text if text is not None and facts(text, path).get("Unit") == owner else None

    def own_drop_in(self, path: Path) -> str | None:
        """The text of a drop-in if it is ours."""
        try:
            text = self.read(path)
        except StoreError:
            return None
        return text if text is not None and is_ours(text, path) else None

    def stray_drop_ins(self) -> list[Path]:
        """Our drop-ins, wherever they are: also those whose slice file is gone."""
        found = []
        for folder in (ETC, RUN):
            for name in self.names(folder):
                if name.endswith(".service.d"):
                    path = folder / name / DROP_IN
                    if self.own_drop_in(path) is not None:
                        found.append(path)
        return found
