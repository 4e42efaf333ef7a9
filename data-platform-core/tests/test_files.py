"""A file is there whole, or as it was before."""

import stat

import pytest

from data_platform_core.files import mend_last_line, whole_file, write_whole


def test_a_file_broken_off_is_as_it_was_and_leaves_nothing(tmp_path):
    file = tmp_path / "plan.json"
    write_whole(file, "before")
    with pytest.raises(TypeError), whole_file(file) as opened:
        opened.writelines([b"half", None])
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_who_may_read_it_is_as_told_whatever_was_there(tmp_path):
    file, left = tmp_path / "password", tmp_path / "password.half"
    for before in (file, left):
        before.write_text("open to all")
        before.chmod(0o644)
    write_whole(file, "secret", 0o600)
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("secret", 0o600)
    assert not left.exists()


@pytest.mark.parametrize(
    ("held", "kept"), [("", ""), ("a", ""), ("a\n", "a\n"), ("a\nb", "a\n"), ("a\nb\n", "a\nb\n"), ("é\né", "é\n")]
)
def test_a_last_line_cut_short_goes_and_whole_ones_stay(tmp_path, held, kept):
    file = tmp_path / "lines"
    file.write_text(held)
    mend_last_line(file)
    assert file.read_text() == kept
    mend_last_line(tmp_path / "none")
    assert list(tmp_path.iterdir()) == [file]
