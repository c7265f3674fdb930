import pytest

from keyslice.config import Workspace
from keyslice.errors import UserError
from keyslice.exams import barred
from keyslice.exams.barred import Barred

ONE, OTHER, EXAM = "a" * 32, "b" * 32, "c" * 32


def test_who_is_put_on_the_list_stays_and_only_the_owner_can_read_it(workspace: Workspace) -> None:
    assert barred.read(workspace, "ward") == Barred()
    assert barred.digest(workspace, "ward") == ""
    barred.add(workspace, "ward", Barred(frozenset([ONE]), frozenset([EXAM])))
    barred.add(workspace, "ward", Barred(frozenset([OTHER])))
    assert barred.read(workspace, "ward") == Barred(frozenset([ONE, OTHER]), frozenset([EXAM]))
    assert barred.read(workspace, "clinic") == Barred()
    assert barred.path(workspace, "ward").stat().st_mode & 0o777 == 0o600


def test_the_same_list_has_the_same_digest_in_whatever_order_it_was_made(
    workspace: Workspace,
) -> None:
    for name, order in (("ward", (ONE, OTHER)), ("clinic", (OTHER, ONE))):
        for patient in order:
            barred.add(workspace, name, Barred(frozenset([patient])))
    assert barred.digest(workspace, "ward") == barred.digest(workspace, "clinic") != ""


@pytest.mark.parametrize("line", [ONE, f"patient {ONE[:-1]}", f"somebody {ONE}", "patient ", " "])
def test_a_damaged_list_lets_nobody_in(workspace: Workspace, line: str) -> None:
    barred.add(workspace, "ward", Barred(frozenset([ONE])))
    with barred.path(workspace, "ward").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(UserError, match=r"line 2 .* backup"):
        barred.read(workspace, "ward")


def test_an_exam_is_barred_by_its_patient_or_by_itself() -> None:
    ban = Barred(frozenset([ONE]), frozenset([EXAM]))
    assert ban.bars({"patient": ONE, "exam_id": OTHER})
    assert ban.bars({"patient": OTHER, "exam_id": EXAM})
    assert not ban.bars({"patient": "unknown", "exam_id": OTHER})
