# SPDX-License-Identifier: LGPL-2.1-or-later
"""Declarations of what is held: read whole, or refused in a sentence with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from cgroup_layering.config.file import merge
from cgroup_layering.config.load import apart, load
from cgroup_layering.config.model import Config
from cgroup_layering.holding.model import Bound, BpfMapSpec, Hold, Holds, Tmpfs
from cgroup_layering.store import Store
from tests.planting import plant, put

FILE = Path("/etc/cgroup-layering/a.toml")


LINES = '[hold."a.service"]\n'


MAP = 'pin = "/sys/fs/bpf/m"\ntype = "hash"\nkey = 4\nvalue = 8\nentries = 16\n'


GOOD_MAP = f'[[hold."a.service".bpf_maps]]\n{MAP}'


GOOD_TMPFS = '[[hold."a.service".tmpfs]]\npath = "/run/a"\nsize = "1M"\n'


def holds(text: str) -> Holds:
    return merge(Config(), text, FILE).holds


def test_a_whole_declaration_is_read() -> None:
    found = holds(
        f'{LINES}required = true\nfiles = ["/var/lib/a/*.db"]\nmax = "64M"\nparity = "1.5% + 2M"\n'
        '[[hold."a.service".tmpfs]]\npath = "/run/a"\nsize = "1G"\nmode = "0750"\nowner = "a:adm"\n'
        'from = "/var/lib/a/seed"\nremake = true\n'
        f'{GOOD_MAP}flags = ["no_prealloc", "rdonly_prog"]\nmode = "0640"\nowner = "a"\n'
    )
    assert not found.bad
    assert found.good["a.service"] == Hold(
        "a.service",
        True,
        ("/var/lib/a/*.db",),
        64 << 20,
        (Tmpfs("/run/a", 1 << 30, "0750", "a:adm", "/var/lib/a/seed", True),),
        (BpfMapSpec("/sys/fs/bpf/m", "hash", 4, 8, 16, 129, "0640", "a"),),
        Bound(1.5, 2 << 20),
    )


def test_domains_have_declarations_too() -> None:
    assert set(holds(GOOD_TMPFS.replace("a.service", "shop/web.domain")).good) == {"shop/web.domain"}


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        (LINES, 1, "nothing is declared"),
        (f"{LINES}colour = 1\n", 2, "'colour' is not known here"),
        ('[hold."a@.service"]\nmax = "1M"\n', 1, "neither a service such as"),
        ('[hold.tmpfs]\nmax = "1M"\n', 1, "neither a service such as"),
        ('\n[hold."a/b/c/d/e.domain"]\nmax = "1M"\n', 2, "it is 5 domains deep, and 4 are the most"),
        (f'{LINES}files = ["/a"]\n', 2, "needs `max`"),
        (f'{LINES}files = "/a"\nmax = "1M"\n', 2, "list of words"),
        (f'{LINES}files = ["a/*"]\nmax = "1M"\n', 2, "no absolute path"),
        (f'{LINES}files = ["/a/../b"]\nmax = "1M"\n', 2, "no absolute path"),
        (f'{LINES}files = ["/proc/1/maps"]\nmax = "1M"\n', 2, "nothing below /proc/"),
        (f'{LINES}files = ["/a"]\n\nmax = "0"\n', 4, "more than 0 bytes"),
        (f'{LINES}files = ["/a"]\nmax = "-5M"\n', 3, "not a size"),
        (f'{LINES}files = ["/a"]\nmax = "infinity"\n', 3, "more than 0 bytes"),
        (f'{LINES}required = "yes"\n{GOOD_TMPFS}', 2, "true or false"),
        (f'{LINES}parity = "2"\n{GOOD_TMPFS}', 2, "such as"),
        (f'{LINES}tmpfs = ["/run/a"]\n', 2, "takes tables"),
        (GOOD_TMPFS.replace("/run/a", "/etc/a"), 2, "outside the places for a tmpfs"),
        (GOOD_TMPFS.replace("/run/a", "/run"), 2, "outside the places for a tmpfs"),
        (GOOD_TMPFS.replace("/run/a", "/run/../etc"), 2, "no absolute path of plain"),
        (GOOD_TMPFS.replace("/run/a", "/run/a b"), 2, "no absolute path of plain"),
        (GOOD_TMPFS.replace("/run/a", "/run/%i"), 2, "no absolute path of plain"),
        (GOOD_TMPFS.replace("1M", "0"), 3, "more than 0 bytes"),
        (f'{GOOD_TMPFS}mode = "rwx"\n', 4, "an octal mode"),
        (f'{GOOD_TMPFS}owner = "a,suid"\n', 4, "user:group"),
        (f"{GOOD_TMPFS}{GOOD_TMPFS}", 5, "/run/a is declared twice"),
        (GOOD_MAP.replace("/sys/fs/bpf/m", "/run/m"), 2, "is outside of"),
        (GOOD_MAP.replace('"hash"', '"task"'), 3, "takes one of"),
        (GOOD_MAP.replace("key = 4", "key = 0"), 4, "takes a number, 1 or more"),
        (GOOD_MAP.replace("value = 8", "value = -8"), 5, "takes a number"),
        (GOOD_MAP.replace("entries = 16\n", ""), 1, "takes a number"),
        (f'{GOOD_MAP}flags = ["fast"]\n', 7, "takes some of no_prealloc"),
        (f"{GOOD_TMPFS}{GOOD_MAP}{GOOD_MAP}", 11, "/sys/fs/bpf/m is declared twice"),
        (f'{LINES}bpf_maps = [{{ pin = "/sys/fs/bpf/m" }}]\n', 2, "takes one of"),
    ],
)
def test_a_bad_declaration_is_a_sentence_with_its_line(text: str, line: int, why: str) -> None:
    """And another one beside it is taken."""
    found = holds(f"{text}\n{GOOD_TMPFS.replace('a.service', 'z.service')}")
    assert set(found.good) == {"z.service"}
    (sentence,) = found.bad.values()
    assert sentence.startswith(f"{FILE}:{line}: ") and sentence.endswith(".")
    assert why in sentence


@pytest.mark.parametrize(
    ("files", "text", "why"),
    [
        ({"run/a": "-> /etc"}, GOOD_TMPFS, "/run/a is a symbolic link"),
        ({"run/a": "-> /etc"}, GOOD_TMPFS.replace("/run/a", "/run/a/b"), "/run/a is a symbolic link"),
        ({}, f'{GOOD_TMPFS}from = "/srv/seed"\n', "/srv/seed is no folder"),
        ({"srv/x": "-> /etc"}, f'{GOOD_TMPFS}from = "/srv/x"\n', "/srv/x is a symbolic link"),
        ({"srv/x": "-> /etc"}, f'{LINES}files = ["/srv/x/*"]\nmax = "1M"\n', "/srv/x is a symbolic link"),
        ({"etc/systemd/system/run-a.mount": "[Mount]\n"}, GOOD_TMPFS, "did not write it"),
        ({"run/systemd/generator/run-a.mount": "[Mount]\n"}, GOOD_TMPFS, "what /etc/fstab says"),
    ],
)
def test_what_a_host_does_not_allow(tmp_path: Path, files: dict[str, str], text: str, why: str) -> None:
    root = plant(tmp_path, {**files, "etc/cgroup-layering/a.toml": text})
    found = load(Store(root)).holds
    assert not found.good
    assert why in found.bad["a.service"]


def test_nothing_is_mounted_where_others_could_put_a_link(tmp_path: Path) -> None:
    root = plant(tmp_path, {"etc/cgroup-layering/a.toml": GOOD_TMPFS.replace("/run/a", "/var/open/a")})
    (root / "var/open").mkdir(parents=True)
    (root / "var/open").chmod(0o777)
    assert "/var/open can be changed by others than root" in load(Store(root)).holds.bad["a.service"]
    (root / "var/open").chmod(0o755)
    assert not load(Store(root)).holds.bad


def test_a_later_file_replaces_a_declaration() -> None:
    config = merge(Config(), f"{LINES}colour = 1\n", FILE)
    config = merge(config, GOOD_TMPFS, FILE)
    assert set(config.holds.good) == {"a.service"} and not config.holds.bad


@pytest.mark.parametrize(("text", "line"), [(GOOD_TMPFS, 2), (f"\n{GOOD_MAP}", 3), (f"{GOOD_MAP}{GOOD_TMPFS}", 8)])
def test_what_one_holds_no_other_can(text: str, line: int) -> None:
    """In whatever file the other says so; by itself it may say it anew."""
    config = merge(Config(), text, FILE)
    config = merge(config, text, FILE)
    assert set(config.holds.good) == {"a.service"} and not config.holds.bad
    config = merge(config, text.replace("a.service", "web.domain"), Path("/etc/cgroup-layering/b.toml"))
    found = apart(config).holds
    assert set(found.good) == {"a.service"}
    sentence = found.bad["web.domain"]
    assert sentence.startswith(f"/etc/cgroup-layering/b.toml:{line}: ")
    assert sentence.endswith(" is declared twice: it is a.service's already.")


def test_what_a_later_file_takes_from_one_another_can_have(tmp_path: Path) -> None:
    folder = "etc/cgroup-layering"
    others = GOOD_TMPFS.replace("a.service", "b.service")
    put(tmp_path, {f"{folder}/10.toml": f"{GOOD_TMPFS}{others}", f"{folder}/20.toml": f"{LINES}files = []\n"})
    assert set(load(Store(tmp_path)).holds.good) == {"b.service"}
    put(tmp_path, {f"{folder}/20.toml": GOOD_TMPFS.replace("/run/a", "/run/other")})
    found = load(Store(tmp_path)).holds
    assert set(found.good) == {"a.service", "b.service"} and not found.bad


@pytest.mark.parametrize(
    ("owner", "why"),
    [
        ("a b.domain", "it has blanks"),
        ("x/x.domain", "can't be inside one of its own name"),
        ("a/b/c/d/e.domain", "it is 5 domains deep, and 4 are the most"),
        (".domain", "it is empty"),
    ],
)
def test_a_domain_that_can_not_be_has_no_declaration(owner: str, why: str) -> None:
    assert why in holds(GOOD_TMPFS.replace("a.service", owner)).bad[owner]
