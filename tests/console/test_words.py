from hypothesis import given
from hypothesis import strategies as st

from keyslice.console.experiments import with_section
from keyslice.console.prediction import ranges


def test_neighbouring_slices_are_told_as_a_range():
    assert ranges([0, 1, 2, 3, 7, 9, 10]) == "0-3 7 9-10"
    assert ranges([5, 5, 4]) == "4-5"
    assert ranges([]) == ""


@given(st.sets(st.integers(0, 60)))
def test_ranges_name_every_slice_once(numbers):
    named = []
    for part in ranges(sorted(numbers)).split():
        first, _, last = part.partition("-")
        named += range(int(first), int(last or first) + 1)
    assert named == sorted(numbers)


def test_a_section_is_replaced_and_the_rest_of_the_page_stays():
    page = with_section("# Results\n\nIntroduction.\n", "a", "first")
    page = with_section(page, "b", "other")
    again = with_section(page, "a", r"second \1")
    assert "Introduction." in again
    assert "first" not in again
    assert r"second \1" in again
    assert "other" in again
    assert with_section(again, "a", r"second \1") == again
    assert with_section(page, "c", "new", add=False) == page
