"""Formats by name; each reader has tests of its own."""

import pytest

from keyslice.exams.readers import format_of


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.nii", "nifti"),
        ("a.b.NII.gz", "nifti"),
        ("IM1.dcm", "dicom"),
        ("a.JPG", "images"),
        ("a.gz", None),
        ("nii", None),
        ("png", None),
        ("nii.gz", None),
        ("a.npz.txt", None),
    ],
)
def test_the_ending_tells_the_format_and_a_name_without_a_dot_none(
    name: str, form: str | None
) -> None:
    assert format_of(name) == form
