"""The file of API keys: what it may hold, what is refused, and how it is read again while the service runs."""

import hashlib
import logging
import os
import subprocess
import sys

import pytest

from roadseg.errors import ConfigError
from roadseg_service.access import __main__ as key_maker
from roadseg_service.access.callers import Caller, Role
from roadseg_service.access.key_file import KeyFile
from roadseg_service.access.keys import MAX_FILE_BYTES, read_keys

ALICE = "alice-0123456789abcdef"
BOB = "bob+/~._-0123456789=="


def sha256(key):
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


@pytest.fixture
def write(tmp_path):
    def write(text, mode=0o600):
        path = tmp_path / "keys"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return path

    return write


def test_keys_in_clear_and_as_digests_are_the_same(write):
    text = f"# the fleet\r\n\n  alice : user : {ALICE}  \nbob:admin:{sha256(BOB).upper().replace('SHA', 'sha')}\n"
    keys = read_keys(write(text))
    assert keys.caller(ALICE.encode()) == Caller("alice", Role.USER)
    assert keys.caller(BOB.encode()) == Caller("bob", Role.ADMIN)
    assert keys.has_admin
    wrong = [
        b"",
        ALICE[:-1].encode(),
        ALICE.encode() + b"\0",
        ALICE.upper().encode(),
        sha256(BOB).encode(),
        b"\xff" * 9,
    ]
    assert [keys.caller(key) for key in wrong] == [None] * len(wrong)
    assert not read_keys(write(f"alice:user:{ALICE}")).has_admin


def test_several_keys_of_one_name_are_valid_at_once(write):
    keys = read_keys(write(f"alice:user:{ALICE}\nalice:user:{sha256(BOB)}\n"))
    assert keys.caller(ALICE.encode()) == keys.caller(BOB.encode()) == Caller("alice", Role.USER)


def test_every_key_is_compared_whichever_matches(write, monkeypatch):
    texts = [f"key-number-{number:08d}" for number in range(7)]
    keys = read_keys(write("\n".join(f"k{n}:user:{text}" for n, text in enumerate(texts))))
    compared = []
    real = hashlib.sha256

    def compare(given, known):
        compared.append(known)
        return given == known

    monkeypatch.setattr("roadseg_service.access.keys.hmac.compare_digest", compare)
    for text in (texts[0], texts[6], "none of them at all"):
        compared.clear()
        keys.caller(text.encode())
        assert compared == [real(known.encode()).digest() for known in texts]


SECRET = "do-not-repeat-me-anywhere"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no key; write lines of NAME:ROLE:KEY"),
        ("# only a comment\n", "holds no key"),
        (f"{SECRET}", "line 1: is not NAME:ROLE:KEY"),
        (f"\nalice:{SECRET}", "line 2: is not NAME:ROLE:KEY"),
        (f"alice:root:{SECRET}", "line 1: 'alice' has a role that is neither user nor admin"),
        (f"{SECRET}!:user:{SECRET}", "line 1: has a name that is not 1 to 64 of letters"),
        (f":user:{SECRET}", "has a name that is not 1 to 64"),
        ("alice:user:", "'alice' has a key of 0 characters; use 16 or more"),
        ("alice:user:fifteen-letters", "'alice' has a key of 15 characters; use 16 or more"),
        (f"alice:user:{SECRET} {SECRET}", "'alice' has a key that is not 16 to 512 of letters, digits"),
        (f"alice:user:{SECRET}:more", "'alice' has a key that is not 16 to 512"),
        (f"alice:user:{SECRET}é", "'alice' has a key that is not 16 to 512"),
        (f"alice:user:{SECRET * 30}", "'alice' has a key that is not 16 to 512"),
        ("alice:user:sha256:" + "0" * 63, "'alice' has a digest that is not sha256: and 64"),
        (f"alice:user:sha256:{SECRET}", "'alice' has a digest that is not sha256: and 64"),
        (f"a:user:{SECRET}\nb:user:{SECRET}", "line 2: has the same key as another line"),
        (f"a:user:{SECRET}\nb:user:{sha256(SECRET)}", "line 2: has the same key as another line"),
        (f"a:user:{SECRET}\na:admin:{SECRET}2", "line 2: gives 'a' another role"),
        (b"alice:user:\xff" + SECRET.encode(), "no UTF-8 text (byte 11)"),
        (f"#{'x' * MAX_FILE_BYTES}", "more than 1048576 bytes"),
        ("\n".join(f"k{n}:user:key-number-{n:08d}" for n in range(1001)), "holds 1001 keys, and at most 1000"),
    ],
)
def test_wrong_files_are_refused_and_nothing_of_a_line_is_repeated(write, text, message):
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        read_keys(path)
    assert message in str(caught.value) and str(path) in str(caught.value)
    assert "repeat" not in str(caught.value)


def test_sixteen_characters_are_enough(write):
    assert read_keys(write("alice:user:sixteen-letters.")).caller(b"sixteen-letters.")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(
        ConfigError, match=r"keys cannot be read \(No such file or directory\); name one .*api_keys_file"
    ):
        read_keys(tmp_path / "keys")
    with pytest.raises(ConfigError, match="cannot be read \\(Is a directory\\)"):
        read_keys(tmp_path)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(write, mode):
    with pytest.raises(
        ConfigError, match=rf"may be written by others \(mode 0{mode:o}\), who could add keys; chmod 600"
    ):
        read_keys(write(f"alice:user:{sha256(ALICE)}", mode))


def test_keys_in_clear_that_others_may_read_are_warned_of(write):
    (warning,) = read_keys(write(f"alice:user:{ALICE}\nbob:user:{sha256(BOB)}", 0o644)).warnings
    assert "holds 1 key in clear" in warning and "mode 0644" in warning and "sha256:" in warning
    assert read_keys(write(f"alice:user:{ALICE}", 0o640)).warnings == ()
    assert read_keys(write(f"bob:user:{sha256(BOB)}", 0o644)).warnings == ()  # tells nobody a key


def test_neither_keys_nor_digests_show_when_an_object_is_printed(write):
    keys = read_keys(write(f"alice:user:{ALICE}"))
    shown = repr(keys) + str(keys)
    assert ALICE not in shown and hashlib.sha256(ALICE.encode()).hexdigest() not in shown
    assert str(hashlib.sha256(ALICE.encode()).digest()) not in shown


class Clock:
    """Seconds that a test moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def rotating(write):
    """A key file of alice, its clock, and how to write it anew."""
    clock = Clock()
    path = write(f"alice:user:{ALICE}")

    def replace(text, mode=0o600):
        new = path.with_suffix(".new")
        new.write_text(text)
        new.chmod(mode)
        new.replace(path)

    return KeyFile(path, clock), clock, replace


def knows(file, *keys):
    return [file.keys().caller(key.encode()) is not None for key in keys]


def test_new_keys_are_valid_and_old_ones_are_not_within_a_second(rotating, caplog):
    caplog.set_level(logging.INFO)
    file, clock, replace = rotating
    replace(f"bob:user:{BOB}")
    assert knows(file, ALICE, BOB) == [True, False]  # the file is not looked at for every request
    clock.now += 0.99
    assert knows(file, ALICE, BOB) == [True, False]
    clock.now += 0.01
    assert knows(file, ALICE, BOB) == [False, True]
    assert "was read again: 1 key" in caplog.text
    assert ALICE not in caplog.text and BOB not in caplog.text


def test_a_file_that_is_written_in_place_is_read_again(rotating):
    file, clock, _ = rotating
    file.path.write_text(f"alice:user:{ALICE[::-1]}")  # as many bytes
    clock.now += 1
    assert knows(file, ALICE, ALICE[::-1]) == [False, True]


def test_a_link_that_leads_elsewhere_is_followed(write, tmp_path):
    """As Kubernetes swaps the files of a secret."""
    clock, link = Clock(), tmp_path / "link"
    for name, key in (("old", ALICE), ("new", BOB)):
        (tmp_path / name).write_text(f"someone:user:{key}")
        (tmp_path / name).chmod(0o400)
    link.symlink_to("old")
    file = KeyFile(link, clock)
    assert knows(file, ALICE, BOB) == [True, False]
    (tmp_path / "link2").symlink_to("new")
    os.replace(tmp_path / "link2", link)
    clock.now += 1
    assert knows(file, ALICE, BOB) == [False, True]


@pytest.mark.parametrize("broken", ["", "nonsense", None])
def test_a_broken_file_keeps_the_keys_that_were_and_says_so_once(rotating, caplog, broken):
    file, clock, replace = rotating
    if broken is None:
        os.remove(file.path)
    else:
        replace(broken)
    for _ in range(3):
        clock.now += 1
        assert knows(file, ALICE) == [True]
    assert caplog.text.count("the keys that were read before stay valid") == 1
    replace(f"bob:user:{BOB}")
    clock.now += 1
    assert knows(file, ALICE, BOB) == [False, True]


def test_it_is_known_whether_the_file_is_right_also_when_it_comes_back_as_it_was(rotating):
    file, clock, replace = rotating

    def right():
        clock.now += 1
        file.keys()
        return file.ok

    assert file.ok and right()
    replace("nonsense")
    assert not right() and not right()  # as long as it is wrong
    replace(f"alice:user:{ALICE}")
    assert right()
    os.remove(file.path)
    assert not right()
    replace(f"alice:user:{ALICE}")
    assert right() and knows(file, ALICE) == [True]


def test_a_pipe_in_the_files_place_holds_nobody_up(rotating, caplog):
    file, clock, _ = rotating
    os.remove(file.path)
    os.mkfifo(file.path)
    clock.now += 1
    assert knows(file, ALICE) == [True] and not file.ok
    assert "is no file but a pipe" in caplog.text


def test_a_replacement_that_others_may_write_is_not_taken(rotating, caplog):
    file, clock, replace = rotating
    replace(f"mallory:admin:{BOB}", 0o666)
    clock.now += 1
    assert knows(file, ALICE, BOB) == [True, False]
    assert "may be written by others" in caplog.text


def test_a_wrong_file_ends_the_start(write):
    with pytest.raises(ConfigError, match="holds no key"):
        KeyFile(write(""))


def test_a_made_key_is_accepted_by_the_line_made_with_it(write, capsys, monkeypatch):
    made = []
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", ["access", "alice", "admin"])
        key_maker.main()
        made.append(dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines()))
    lines = [entry["line"].strip() for entry in made]
    keys = read_keys(write("\n".join(lines)))
    for entry in made:
        assert keys.caller(entry["key"].strip().encode()) == Caller("alice", Role.ADMIN)
        assert entry["key"].strip() not in "".join(lines)
    assert made[0]["key"] != made[1]["key"]


def test_the_key_maker_is_a_module_that_refuses_what_no_file_may_hold():
    done = subprocess.run(
        [sys.executable, "-m", "roadseg_service.access", "al:ice", "user"], capture_output=True, text=True
    )
    assert done.returncode == 2 and "'al:ice' is not 1 to 64 of letters" in done.stderr and done.stdout == ""
