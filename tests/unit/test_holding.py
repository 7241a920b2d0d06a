# SPDX-License-Identifier: LGPL-2.1-or-later
"""Declarations of persistent resources: what can be taken, where it is wrong, and what is written for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cgroup_layering import render
from cgroup_layering.charges.openfile import open_regular
from cgroup_layering.config.file import merge
from cgroup_layering.config.load import apart, load
from cgroup_layering.config.model import Config
from cgroup_layering.holding import files, parity
from cgroup_layering.holding.matching import MOST_FILES, TooMany, matches
from cgroup_layering.holding.model import Bound, BpfMapSpec, Hold, Holds, Tmpfs, from_json
from cgroup_layering.holding.names import holder_name, mount_name, owner_of
from cgroup_layering.holding.recording import recorded
from cgroup_layering.holding.state import Report, forget, read_state, write_state
from cgroup_layering.holding.tmpfs import STAGE, fill
from cgroup_layering.model import Change, Tracking
from cgroup_layering.own import declaration, domain_holders
from cgroup_layering.planner import Request, plan
from cgroup_layering.store import Store
from cgroup_layering.unitfile import parse
from cgroup_layering.unitpaths import ETC
from cgroup_layering.upkeep import Action, Case, Subject, decide, file_changes
from tests.holdings import FULL, HOLD
from tests.layerings import facts, host, layering
from tests.planting import plant, put, read_root

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


def test_names_lead_back() -> None:
    for owner in ("a.service", "postgresql@17-main.service", "shop/web.domain", r"x\x2dy.service"):
        assert owner_of(holder_name(owner)) == owner
    assert holder_name("a-b.service") == r"cgroup-layering-hold@a\x2db.service.service"
    assert owner_of("cgroup-layering-reap.service") is None
    assert mount_name("/run/a-b/.c") == r"run-a\x2db-\x2ec.mount"


def test_a_declaration_survives_its_unit_file() -> None:
    text = render.holder_texts(FULL, "s.slice", ("a.service",), version="1", part_of=True)[holder_name("a.service")]
    assert declaration(text, Path("x")) == FULL
    assert from_json("{}") is None and from_json("[") is None


def test_units_of_ours_inside_a_layer_count_nothing() -> None:
    text = render.holder_texts(FULL, "s.slice", ("a.service",), version="1", part_of=True)[holder_name("a.service")]
    said = {setting.key: setting.value for setting in parse(text, Path("x")) if setting.section != "X-CgroupLayering"}
    assert said["MemoryAccounting"] == said["TasksAccounting"] == said["IOAccounting"] == "no"
    assert said["TasksMax"] == "infinity"
    assert said["CollectMode"] == "inactive-or-failed"
    assert said["Slice"] == "s.slice" and said["Before"] == said["PartOf"] == "a.service"
    assert not {key for key in said if key.startswith(("Memory", "Delegate"))} - {"MemoryAccounting"}


def test_a_domain_has_a_holder_before_all_its_members() -> None:
    text = render.holder_texts(FULL, "d.slice", ("a.service", "b.service"), version="1", part_of=False)[
        holder_name("a.service")
    ]
    assert "Before=a.service\nBefore=b.service\n" in text and "PartOf" not in text


def test_mounts_carry_size_mode_and_owner() -> None:
    said = render.hold_texts(layering("a.service", hold=FULL))["run-a.mount"]
    assert "Options=mode=0750,size=1048576,uid=a,gid=adm,nosuid,nodev\n" in said


@pytest.mark.parametrize("required", [False, True])
def test_the_service_asks_for_its_holder(required: bool) -> None:
    hold = Hold("a.service", required, maps=FULL.maps)
    word = "Requires" if required else "Wants"
    text = render.drop_in_text(layering("a.service", hold=hold))
    assert f"[Unit]\n{word}={holder_name('a.service')}\n\n[Service]\nSlice=" in text


def planned(request: Request, root: Path) -> tuple[Change, Hold | None, list[str]]:
    (found,) = plan(read_root(root, "a.service"), request).services
    assert found.layering is not None
    return found.change, found.layering.hold, [note.code for note in found.notes]


def test_what_is_declared_is_planned_written_and_read_back(tmp_path: Path) -> None:
    root = plant(tmp_path, {"usr/lib/systemd/system/a.service": "[Service]\nExecStart=/bin/true\n"})
    declared = Config(holds=Holds({"a.service": FULL}))
    change, hold, notes = planned(Request(config=declared), root)
    assert (change, hold) == (Change.ADD, FULL) and "hold-tmpfs" in notes
    (service,) = plan(read_root(root, "a.service"), Request(config=declared)).services
    assert service.layering is not None
    texts = render.hold_texts(service.layering)
    put(root, {f"etc/systemd/system/{name}": text for name, text in texts.items()})
    put(root, {f"etc/systemd/system/{service.layering.layer}": render.slice_text(service.layering)})
    put(root, {"etc/systemd/system/a.service.d/zz-cgroup-layering.conf": render.drop_in_text(service.layering)})
    own = Store(root).own()["a.service"]
    assert own.hold == FULL
    assert [path.name for path, _ in own.held] == [holder_name("a.service"), "run-a.mount"]
    assert planned(Request(config=declared), root)[:2] == (Change.NONE, FULL)
    assert planned(Request(), root)[:2] == (Change.NONE, FULL), "nobody looked: it stays"
    assert planned(Request(config=Config()), root)[:2] == (Change.UPDATE, None)
    bad = Config(holds=Holds({}, {"a.service": "a.toml:1: it is bad."}))
    change, hold, notes = planned(Request(config=bad), root)
    assert (change, hold) == (Change.NONE, FULL) and "hold-bad" in notes
    (root / "etc/systemd/system/run-a.mount").unlink()
    assert planned(Request(config=declared), root)[0] is Change.UPDATE


def test_update_follows_the_declaration() -> None:
    service = facts()
    (one,) = plan(host(service), Request(holds=Holds({"hello.service": HOLD}))).services
    assert one.layering is not None
    said = one.layering
    from cgroup_layering.own import read_back

    held = tuple((ETC / name, text) for name, text in render.hold_texts(said).items())
    own = read_back(ETC / said.layer, render.slice_text(said), render.drop_in_text(said), False, held)
    assert own is not None and own.hold == HOLD
    subject = Subject(own, facts(own=own, slice=said.layer, active_state="active"), True, True)
    same = decide(subject, host(service), {"hello.service"}, Holds({"hello.service": HOLD}))
    assert same.action is Action.NONE
    gone = decide(subject, host(service), {"hello.service"}, Holds())
    assert (gone.case, gone.action) == (Case.DECLARED, Action.WRITE)
    changed = {path.name: after for path, _, after in file_changes(gone)}
    assert changed[holder_name("hello.service")] == ""
    assert "Wants=" not in changed["zz-cgroup-layering.conf"]


def test_no_note_on_a_tmpfs_where_the_layer_pays_at_once() -> None:
    config = Config(holds=Holds({"hello.service": Hold("hello.service", tmpfs=FULL.tmpfs)}))
    (found,) = plan(
        host(facts()), Request(config=config, tracking=Tracking.SERVICE, accept_oom_policy_loss=True)
    ).services
    assert "hold-tmpfs" not in [note.code for note in found.notes]


def test_globs_match_as_in_a_shell_and_follow_no_link(tmp_path: Path) -> None:
    for name in ("a/1.db", "a/2.txt", "a/.3.db", "a/b/4.db", "a/b/c/5.db", "d/6.db"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a/link.db").symlink_to(tmp_path / "d/6.db")
    (tmp_path / "a/folder").symlink_to(tmp_path / "d")
    assert matches(("/a/*.db",), tmp_path) == ["/a/1.db"]
    assert matches(("/a/.*", "/a/1.db"), tmp_path) == ["/a/.3.db", "/a/1.db"]
    assert matches(("/a/**/*.db",), tmp_path) == ["/a/1.db", "/a/b/4.db", "/a/b/c/5.db"]
    assert matches(("/a/b/**",), tmp_path) == ["/a/b/4.db"]
    assert matches(("/a/*/*.db", "/[ad]/6.db", "/nothing/*"), tmp_path) == ["/a/b/4.db", "/d/6.db"]


def test_a_glob_has_an_end(tmp_path: Path) -> None:
    for number in range(MOST_FILES + 1):
        (tmp_path / str(number)).touch()
    with pytest.raises(TooMany, match="matches more than 10000 files"):
        matches(("/*",), tmp_path)


def test_the_bound_is_a_share_and_bytes() -> None:
    bound = Bound(2, 100)
    assert bound.holds(10_000, 10_300) and bound.holds(10_300, 10_000)
    assert not bound.holds(10_000, 10_400)


def test_what_is_in_memory_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"x" * 8192)
    found = recorded(Hold("a.service", files=(str(path),)))
    assert found == {str(path): [(0, 2)]}


def test_state_is_written_read_and_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / "var/lib/cgroup-layering"
    folder.parent.mkdir(parents=True)
    assert read_state("a-b.service", "parity", folder) is None
    write_state("a-b.service", "parity", {"x": 1}, folder)
    assert read_state("a-b.service", "parity", folder) == {"x": 1}
    assert folder.stat().st_mode & 0o777 == 0o700
    forget(Store(tmp_path), "a-b.service")
    assert not folder.exists()
    folder.symlink_to(tmp_path)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        write_state("a.service", "parity", {}, folder)


def test_an_empty_tmpfs_is_filled_once_and_a_cut_copy_begun_anew(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "deep").mkdir(parents=True)
    (source / "one").write_text("1")
    (source / "deep/two").write_text("2")
    target.mkdir()
    one = Tmpfs(str(target), 1 << 20, source=str(source))
    fill(one)
    assert sorted(os.listdir(target)) == ["deep", "one"] and (target / "deep/two").read_text() == "2"
    (target / "one").unlink()
    fill(one)
    assert os.listdir(target) == ["deep"], "what the service removed stays away"
    (target / f"{STAGE}cut").mkdir()
    (target / "deep/two").write_text("service's")
    fill(one)
    assert sorted(os.listdir(target)) == ["deep", "one"]
    assert (target / "deep/two").read_text() == "service's"


@pytest.fixture
def pages_of_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two files of two pages each; who is charged for them is for VMs to test."""
    monkeypatch.setattr(files, "_outside", lambda _fd, _inside: False)
    monkeypatch.setattr(files, "memory", lambda _key: 1 << 30)
    for name in "ab":
        (tmp_path / name).write_bytes(b"x" * 8192)
    return [str(tmp_path / name) for name in "ab"]


def loaded(paths: list[str], max_bytes: int, known: object = None) -> tuple[list[str], list[str]]:
    """The files that were opened to be read, and the notes."""
    opened: list[str] = []
    report = Report()
    real = open_regular

    def noted(path: str) -> int:
        opened.append(path)
        return real(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "open_regular", noted)
        patch.setattr(files, "memory_devices", lambda _mounts: frozenset())
        files.load(Hold("a.service", files=tuple(paths), max_bytes=max_bytes), known, (), report)
    assert not report.problems
    return opened, report.notes


def test_files_are_loaded_up_to_the_budget(pages_of_two: list[str]) -> None:
    assert loaded(pages_of_two, 16384) == (pages_of_two, [])
    opened, notes = loaded(pages_of_two, 8192)
    assert opened == pages_of_two[:1]
    assert notes == ["1 files were not looked at any more: `max` of 8.0K or memory was used up."]


def test_never_more_than_half_of_what_is_available(pages_of_two: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "memory", lambda key: {"MemAvailable": 16384}[key])
    assert loaded(pages_of_two, 1 << 30)[0] == pages_of_two[:1]


def test_only_what_was_in_memory_at_the_last_stop_is_wanted(pages_of_two: list[str]) -> None:
    assert loaded(pages_of_two, 1 << 20, {pages_of_two[1]: [[0, 1], [700, 3]]}) == (pages_of_two[1:], [])
    assert loaded(pages_of_two, 1 << 20, {}) == ([], [])


@pytest.mark.parametrize("known", [[], "x", {"/a": 7}, {"/a": [[1]]}, {"/a": [["x", 1]]}])
def test_a_damaged_record_is_none(pages_of_two: list[str], known: object) -> None:
    assert loaded(pages_of_two, 1 << 20, known) == (pages_of_two, [])


def test_parity_compares_with_the_first_instance_since_the_layer_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state: dict[str, object] = {}
    monkeypatch.setattr(parity, "read_state", lambda _owner, _kind: state.get("known"))
    monkeypatch.setattr(parity, "write_state", lambda _owner, _kind, known: state.update(known=known))
    monkeypatch.setattr(parity, "_BOOT_ID", tmp_path / "boot_id")
    (tmp_path / "boot_id").write_text("one\n")
    hold = Hold("a.service", parity=Bound(0, 100))
    assert parity.look(hold, 7, "i1", 5000) == parity.Parity(5000, None, True, "0 % + 100B")
    assert parity.look(hold, 7, "i1", 9000).first == 5000, "it grew since"
    assert parity.look(hold, 7, "i2", 5100).kept
    later = parity.look(hold, 7, "i3", 4899)
    assert not later.kept and str(later) == "4.9K first, 4.8K later"
    assert parity.look(hold, 8, "i3", 4899) == parity.Parity(4899, None, True, "0 % + 100B"), "another layer"
    (tmp_path / "boot_id").write_text("two\n")
    assert parity.look(hold, 8, "i4", 100).later is None


def test_members_of_a_domain_wait_for_its_holder() -> None:
    declared_here = Holds({"shop.domain": Hold("shop.domain", tmpfs=FULL.tmpfs)}, {"shop/web.domain": "It is bad."})
    inside = facts(domain="system-shop.domain-web.domain.slice")
    (found,) = plan(host(inside), Request(holds=declared_here)).services
    assert found.layering is not None
    assert found.layering.domain_holders == (holder_name("shop.domain"),)
    text = render.drop_in_text(found.layering)
    assert f"Wants={holder_name('shop.domain')}\n" in text and "Requires" not in text
    assert domain_holders(text) == (holder_name("shop.domain"),)
    (outside,) = plan(host(facts()), Request(holds=declared_here)).services
    assert outside.layering is not None and not outside.layering.domain_holders


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


def test_a_domains_holder_holds_nobody_back() -> None:
    text = '[hold."web.domain"]\nrequired = true\n' + GOOD_TMPFS.replace("a.service", "web.domain")
    assert "`required` is for services" in holds(text).bad["web.domain"]
