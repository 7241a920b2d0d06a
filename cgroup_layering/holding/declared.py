# SPDX-License-Identifier: LGPL-2.1-or-later
"""A table `[hold."UNIT"]` of the configuration, read and checked as far as its text goes. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cgroup_layering.domains.naming import BadDomainName, domain_slice
from cgroup_layering.holding.model import Bound, BpfMapSpec, Hold, Tmpfs
from cgroup_layering.holding.names import DOMAIN, holder_name
from cgroup_layering.naming import UNIT_NAME_LIMIT, is_service_name, is_template
from cgroup_layering.spans import parse_size

FLAGS = {
    "no_prealloc": 1 << 0,
    "no_common_lru": 1 << 1,
    "rdonly": 1 << 3,
    "wronly": 1 << 4,
    "zero_seed": 1 << 6,
    "rdonly_prog": 1 << 7,
    "wronly_prog": 1 << 8,
    "mmapable": 1 << 10,
}
"""BPF_F_... of include/uapi/linux/bpf.h that a map can be made with by bpftool."""
TYPES = (
    "hash",
    "array",
    "percpu_hash",
    "percpu_array",
    "lru_hash",
    "lru_percpu_hash",
    "lpm_trie",
    "queue",
    "stack",
    "ringbuf",
    "bloom_filter",
)
PLACES = ("/run/", "/srv/", "/var/", "/opt/")
"""Where a tmpfs may be mounted: not over the system's own folders."""
NO_FILES = ("/proc/", "/sys/", "/dev/", "/run/")
"""What has no page cache of its own, or none that is read from a disk."""
BPFFS = "/sys/fs/bpf/"
_PATH = re.compile(r"(?:/[A-Za-z0-9:_.@+~-]+)+", re.ASCII)
_PIN = re.compile(r"(?:/[A-Za-z0-9_-]+)+", re.ASCII)
_MODE = re.compile(r"0?[0-7]{3,4}", re.ASCII)
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}"
_OWNER = re.compile(rf"{_NAME}(?::{_NAME})?", re.ASCII)
_BOUND = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%(?:\s*\+\s*(\S+))?\s*", re.ASCII)


class BadHold(ValueError):
    """A declaration that can't be taken: the keys that lead to what is wrong, and why."""

    def __init__(self, keys: Sequence[str | int], reason: str) -> None:
        super().__init__(reason)
        self.keys = tuple(keys)
        self.reason = reason


def read_hold(owner: str, table: object) -> Hold:
    """The declaration of a service or a domain. Raises BadHold."""
    _check_owner(owner)
    if len(holder_name(owner)) > UNIT_NAME_LIMIT:
        raise BadHold((), f"the name of the holder of {owner} would be over systemd's limit of {UNIT_NAME_LIMIT} bytes")
    if not isinstance(table, dict):
        raise BadHold((), "a declaration is a table, not a value")
    _only(table, ("required", "files", "max", "tmpfs", "bpf_maps", "parity"), ())
    files = _texts(table, "files")
    tmpfs = tuple(_tmpfs(one, ("tmpfs", n)) for n, one in enumerate(_tables(table, "tmpfs")))
    maps = tuple(_map(one, ("bpf_maps", n)) for n, one in enumerate(_tables(table, "bpf_maps")))
    if not (files or tmpfs or maps):
        raise BadHold((), "nothing is declared: give `files`, `tmpfs` or `bpf_maps`")
    for glob in files:
        _check_glob(glob)
    if files and "max" not in table:
        raise BadHold(("files",), "`files` needs `max`, how much of them is loaded at most")
    if owner.endswith(DOMAIN) and "required" in table:
        raise BadHold(("required",), "`required` is for services: a domain's holder holds none of them back")
    _twice([one.path for one in tmpfs], "tmpfs", "path")
    _twice([one.pin for one in maps], "bpf_maps", "pin")
    return Hold(
        owner=owner,
        required=_truth(table, "required", ()),
        files=tuple(files),
        max_bytes=_size(table, "max", ()) if "max" in table else 0,
        tmpfs=tmpfs,
        maps=maps,
        parity=_bound(table),
    )


def _check_owner(owner: str) -> None:
    if owner.endswith(DOMAIN):
        try:
            domain_slice(owner.removesuffix(DOMAIN))
        except BadDomainName as error:
            raise BadHold((), str(error).rstrip(".")) from error
    elif is_template(owner) or not is_service_name(owner):
        raise BadHold((), f"{owner!r} is neither a service such as a.service nor a domain such as web.domain")


def check_apart(hold: Hold, others: Iterable[Hold]) -> None:
    """Raises BadHold where a path or a pin is another's already: two holders would take it from each other."""
    for other in others:
        for kind, key, mine, theirs in (
            ("tmpfs", "path", [one.path for one in hold.tmpfs], [one.path for one in other.tmpfs]),
            ("bpf_maps", "pin", [one.pin for one in hold.maps], [one.pin for one in other.maps]),
        ):
            for n, value in enumerate(mine):
                if value in theirs:
                    raise BadHold((kind, n, key), f"{value} is declared twice: it is {other.owner}'s already")


def _check_glob(glob: str) -> None:
    if not glob.startswith("/") or glob.endswith("/") or ".." in glob.split("/") or "\0" in glob:
        raise BadHold(("files",), f"{glob!r} is no absolute path or glob of files")
    if glob.startswith(NO_FILES):
        raise BadHold(
            ("files",), f"{glob!r} is outside the places whose files can be held: nothing below {_or(NO_FILES)}"
        )


def _tmpfs(table: Mapping[str, Any], at: tuple[str | int, ...]) -> Tmpfs:
    _only(table, ("path", "size", "mode", "owner", "from", "remake"), at)
    path = _place(table, "path", at, _PATH)
    if not path.startswith(PLACES):
        raise BadHold((*at, "path"), f"{path} is outside the places for a tmpfs: they are below {_or(PLACES)}")
    return Tmpfs(
        path=path,
        size=_size(table, "size", at),
        mode=_matching(table, "mode", at, "0755", _MODE, "an octal mode such as 0750"),
        owner=_matching(table, "owner", at, "", _OWNER, "a user, or user:group"),
        source=_place(table, "from", at, _PATH) if "from" in table else "",
        remake=_truth(table, "remake", at),
    )


def _map(table: Mapping[str, Any], at: tuple[str | int, ...]) -> BpfMapSpec:
    _only(table, ("pin", "type", "key", "value", "entries", "flags", "owner", "mode"), at)
    pin = _place(table, "pin", at, _PIN)
    if not pin.startswith(BPFFS):
        raise BadHold((*at, "pin"), f"{pin} is outside of {BPFFS}, where maps are pinned")
    kind = table.get("type")
    if kind not in TYPES:
        raise BadHold((*at, "type"), f"`type` takes one of {', '.join(TYPES)}")
    keyless = kind in ("queue", "stack", "ringbuf", "bloom_filter")
    flags = _texts(table, "flags", at)
    for flag in flags:
        if flag not in FLAGS:
            raise BadHold((*at, "flags"), f"`flags` takes some of {', '.join(FLAGS)}")
    return BpfMapSpec(
        pin=pin,
        type=str(kind),
        key=_number(table, "key", at, 0 if keyless else 1, 0 if keyless else None),
        value=_number(table, "value", at, 0 if kind == "ringbuf" else 1, 0 if kind == "ringbuf" else None),
        entries=_number(table, "entries", at, 1, None),
        flags=sum({FLAGS[flag] for flag in flags}),
        mode=_matching(table, "mode", at, "0600", _MODE, "an octal mode such as 0640"),
        owner=_matching(table, "owner", at, "", _OWNER, "a user, or user:group"),
    )


def _only(table: Mapping[str, Any], known: Sequence[str], at: tuple[str | int, ...]) -> None:
    for key in table:
        if key not in known:
            raise BadHold((*at, key), f"the key {key!r} is not known here; known are {', '.join(known)}")


def _or(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _twice(values: list[str], kind: str, key: str) -> None:
    for n, value in enumerate(values):
        if value in values[:n]:
            raise BadHold((kind, n, key), f"{value} is declared twice")


def _tables(table: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise BadHold((key,), f'`{key}` takes tables, each below a line [[hold."NAME".{key}]]')
    return value


def _texts(table: Mapping[str, Any], key: str, at: tuple[str | int, ...] = ()) -> list[str]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise BadHold((*at, key), f"`{key}` takes a list of words in quotes")
    return value


def _truth(table: Mapping[str, Any], key: str, at: tuple[str | int, ...]) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise BadHold((*at, key), f"`{key}` takes true or false, without quotes")
    return value


def _place(table: Mapping[str, Any], key: str, at: tuple[str | int, ...], allowed: re.Pattern[str]) -> str:
    value = table.get(key)
    if not isinstance(value, str):
        raise BadHold((*at, key), f"`{key}` takes an absolute path in quotes")
    parts = value.split("/")
    if allowed.fullmatch(value) is None or "." in parts or ".." in parts:
        raise BadHold((*at, key), f"{value!r} is no absolute path of plain characters")
    return value


def _matching(
    table: Mapping[str, Any], key: str, at: tuple[str | int, ...], default: str, allowed: re.Pattern[str], what: str
) -> str:
    value = table.get(key, default)
    if not isinstance(value, str) or (value != default and allowed.fullmatch(value) is None):
        raise BadHold((*at, key), f"`{key}` takes {what}, in quotes")
    return value


def _number(table: Mapping[str, Any], key: str, at: tuple[str | int, ...], least: int, default: int | None) -> int:
    value = table.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 1 << 32:
        raise BadHold((*at, key), f"`{key}` takes a number, {least} or more")
    return value


def _size(table: Mapping[str, Any], key: str, at: tuple[str | int, ...]) -> int:
    value = table.get(key)
    return _convert(value, key, at, lambda text: parse_size(text) or 0)


def _convert(value: object, key: str, at: tuple[str | int, ...], parse: Callable[[str], int]) -> int:
    try:
        size = parse(value) if isinstance(value, str) else 0
    except ValueError as error:
        raise BadHold((*at, key), str(error)) from error
    if size <= 0:
        raise BadHold((*at, key), f'`{key}` takes a size such as "64M", more than 0 bytes')
    return size


def _bound(table: Mapping[str, Any]) -> Bound:
    if "parity" not in table:
        return Bound()
    value = table["parity"]
    found = _BOUND.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise BadHold(("parity",), '`parity` takes a share and a size, such as "2% + 1M"')
    extra = _convert(found[2], "parity", (), lambda text: parse_size(text) or 0) if found[2] else 0
    return Bound(float(found[1]), extra)
