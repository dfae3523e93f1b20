"""Which files are imported, and what is said about one that cannot be."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.archive.checks import InvalidContribution, NotUtf8, TextTooLarge
from shared.archive.files import NothingToImport, UnreadableFile, find, read
from shared.config import Settings


@pytest.fixture(autouse=True)
def settings(configure: Callable[..., Settings]) -> Settings:
    return configure(MAX_TEXT_BYTES="1000")


def write(path: Path, text: str = "एक कहानी") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def within(seconds: float, call: Callable[[], object]) -> BaseException | object:
    """What the call returned or raised; fails, instead of hanging, when it takes longer."""
    outcome: list[BaseException | object] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # noqa: BLE001 - handed to the test
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert outcome, f"it hangs: no answer within {seconds} s"
    return outcome[0]


# Finding


def test_a_folder_gives_its_texts_in_a_stable_order_and_nothing_else(tmp_path: Path) -> None:
    wanted = [tmp_path / name for name in ("a.txt", "B.MD", "b/c.md", "b/d/e.TXT")]
    for path in [*wanted, *(tmp_path / name for name in ("f.pdf", ".hidden.txt", ".git/g.txt"))]:
        write(path)

    assert find([tmp_path]) == sorted(wanted, key=lambda path: (len(path.parts), path))
    assert find([tmp_path]) == find([tmp_path])


def test_files_keep_the_order_they_were_named_in_and_stand_once(tmp_path: Path) -> None:
    first, second = write(tmp_path / "z.txt"), write(tmp_path / "a.txt")

    assert find([first, second, first, tmp_path]) == [first, second]


@pytest.mark.parametrize("content", [None, "notes.pdf", ".hidden.txt"])
def test_a_folder_without_texts_says_what_it_looked_for_and_where(
    tmp_path: Path, content: str | None
) -> None:
    if content:
        write(tmp_path / content)

    with pytest.raises(NothingToImport) as refused:
        find([tmp_path])

    assert ".txt or .md" in refused.value.sentence
    assert str(tmp_path) in refused.value.sentence


def test_a_path_that_is_not_there_stays_in_the_list_and_its_reading_says_why(
    tmp_path: Path,
) -> None:
    gone, there = tmp_path / "gone.txt", write(tmp_path / "there.txt")

    assert find([gone, there]) == [gone, there]
    with pytest.raises(UnreadableFile, match=r"gone\.txt cannot be read: No such file"):
        read(gone)


def test_a_name_that_no_file_can_have_is_one_entry_and_no_crash(tmp_path: Path) -> None:
    endless = tmp_path / ("a" * 300 + ".txt")

    assert find([endless]) == [endless]
    with pytest.raises(UnreadableFile, match="File name too long"):
        read(endless)


def test_links_to_files_are_followed_and_links_to_folders_are_not(tmp_path: Path) -> None:
    story = write(tmp_path / "elsewhere" / "story.txt")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link.txt").symlink_to(story)
    (inside / "folder").symlink_to(story.parent)

    assert find([inside]) == [inside / "link.txt"]
    assert read(inside / "link.txt").text == "एक कहानी"


def test_loops_of_links_end(tmp_path: Path) -> None:
    story = write(tmp_path / "a" / "story.txt")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self.txt").symlink_to(tmp_path / "a" / "self.txt")

    assert find([tmp_path]) == [tmp_path / "a" / "self.txt", story]
    with pytest.raises(UnreadableFile, match=r"self\.txt cannot be read: Too many levels"):
        read(tmp_path / "a" / "self.txt")


def test_a_loop_of_links_that_is_named_itself_is_one_entry(tmp_path: Path) -> None:
    (tmp_path / "one.txt").symlink_to(tmp_path / "two.txt")
    (tmp_path / "two.txt").symlink_to(tmp_path / "one.txt")

    assert find([tmp_path / "one.txt"]) == [tmp_path / "one.txt"]
    with pytest.raises(UnreadableFile, match="Too many levels"):
        read(tmp_path / "one.txt")


def test_a_folder_whose_name_ends_like_a_file_is_still_a_folder(tmp_path: Path) -> None:
    story = write(tmp_path / "book.txt" / "chapter.txt")

    assert find([tmp_path]) == [story]
    assert find([tmp_path / "book.txt"]) == [story]
    with pytest.raises(UnreadableFile, match=r"book\.txt cannot be read: Is a directory"):
        read(tmp_path / "book.txt")


# Reading


def test_a_dangling_link_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "story.txt").symlink_to(tmp_path / "gone")

    assert find([tmp_path]) == [tmp_path / "story.txt"]
    with pytest.raises(UnreadableFile, match=r"story\.txt cannot be read: No such file"):
        read(tmp_path / "story.txt")


def test_a_pipe_that_nobody_writes_to_does_not_hold_up_the_import(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.txt"
    os.mkfifo(pipe)

    answer = within(5, lambda: [read(path) for path in find([tmp_path])])

    assert isinstance(answer, UnreadableFile)
    assert answer.sentence == "pipe.txt cannot be read: it is not a regular file."


def test_a_socket_and_a_device_are_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    with pytest.raises(UnreadableFile, match="not a regular file"):
        read(tmp_path / "zero.txt")

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.txt"))
        with pytest.raises(UnreadableFile, match=r"socket\.txt cannot be read"):
            read(tmp_path / "socket.txt")


def test_a_file_whose_reading_fails_says_why(tmp_path: Path) -> None:
    # Opens, is regular, and fails on read, for root too: a process's memory at address 0.
    memory = Path("/proc/self/mem")
    if not memory.exists():
        pytest.skip("only Linux has /proc/self/mem")
    (tmp_path / "memory.txt").symlink_to(memory)

    with pytest.raises(UnreadableFile, match=r"memory\.txt cannot be read: Input/output error"):
        read(tmp_path / "memory.txt")


def test_another_kind_of_file_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidContribution, match=r"photo\.jpg is not a \.txt or \.md file"):
        read(write(tmp_path / "photo.jpg"))


def test_a_file_may_be_as_large_as_the_limit_whatever_its_byte_order_mark(tmp_path: Path) -> None:
    exact = tmp_path / "exact.txt"
    exact.write_bytes(b"\xef\xbb\xbf" + b"a" * 1000)

    assert read(exact).text == "a" * 1000


def test_a_file_above_the_limit_is_not_read_to_its_end_and_says_its_size(tmp_path: Path) -> None:
    large = tmp_path / "large.txt"
    with large.open("wb") as file:
        file.truncate(3_000_000_000_000)  # sparse: reading all of it would never end

    answer = within(5, lambda: read(large))

    assert isinstance(answer, TextTooLarge)
    assert answer.sentence.startswith("large.txt has 3000000.0 MB; this archive accepts")


def test_what_is_not_utf8_is_told_with_the_place_of_the_wrong_byte(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_bytes(b"caf\xe9")

    with pytest.raises(NotUtf8, match=r"byte 4 is not valid.*save it as UTF-8"):
        read(tmp_path / "old.txt")


# Title and key


@pytest.mark.parametrize(
    ("name", "text", "title"),
    [
        ("राजा_विक्रम-की_कथा.txt", "# not a heading here", "राजा विक्रम की कथा"),
        ("story.md", "एक\n\n# दीपावली की रात  \nदो", "दीपावली की रात"),
        ("story.md", "\ufeff# After the mark", "After the mark"),
        ("old_story.md", "## Second level\n#no space\n# \n", "old story"),
        ("---.txt", "text", "Untitled"),
        ("story.md", "# " + "अ" * 300, "अ" * 200),
        ("अ" * 70 + ".txt", "text", "अ" * 70),
    ],
)
def test_the_title_is_the_first_heading_or_the_file_s_name_in_words(
    tmp_path: Path, name: str, text: str, title: str
) -> None:
    assert read(write(tmp_path / name, text)).title == title


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "windows.txt").write_bytes(b"\xef\xbb\xbf" + "कथा".encode())

    assert read(tmp_path / "windows.txt").text == "कथा"


def test_a_file_name_that_is_no_text_is_read_and_gets_a_title_that_can_be_stored(
    tmp_path: Path,
) -> None:
    name = os.path.join(os.fsencode(tmp_path), b"caf\xe9.txt")
    try:
        Path(os.fsdecode(name)).write_text("कथा", encoding="utf-8")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")

    (path,) = find([tmp_path])
    file = read(path)

    assert os.fsencode(path) == name
    assert file.title == "caf?"
    assert file.text == "कथा"


def test_the_sentence_about_a_file_whose_name_is_no_text_can_be_written_anywhere(
    tmp_path: Path,
) -> None:
    broken = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))

    with pytest.raises(UnreadableFile) as unreadable:
        read(broken.with_suffix(".txt"))
    with pytest.raises(InvalidContribution) as another_kind:
        read(broken.with_suffix(".pdf"))
    for raised in (unreadable, another_kind):
        assert raised.value.sentence.encode("utf-8").startswith(b"caf")


def test_the_same_file_again_has_the_same_key_and_any_change_another(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "one")
    key = read(path).submission_key
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.txt").symlink_to(path)

    for way in (path, tmp_path / "folder" / ".." / "a.txt", tmp_path / "link.txt"):
        assert read(way).submission_key == key
    assert read(write(tmp_path / "copy.txt", "one")).submission_key != key
    assert read(write(path, "two")).submission_key != key
    assert len(key) <= 64


def test_a_relative_path_has_the_key_of_the_absolute_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.txt")
    monkeypatch.chdir(tmp_path)

    assert read(Path("a.txt")).submission_key == read(path).submission_key
