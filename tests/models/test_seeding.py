import torch

from keyslice.models.seeding import derive, generator, per_exam


def _draws(generators):
    return [torch.rand(1, generator=g).item() for g in generators]


def test_an_exams_draws_depend_on_the_seed_and_on_the_exam():
    first, second = _draws(per_exam(0, ["a", "b"]))
    assert first != second
    assert _draws(per_exam(1, ["a"])) != [first]
    assert _draws(per_exam(0, ["b", "a"])) == [second, first]


def test_a_name_gives_its_own_seed_and_the_same_one_always():
    seeds = {derive("noise", 0, 0), derive("noise", 0, 1), derive("noise", 1, 0), derive("x", 0, 0)}
    assert len(seeds) == 4
    assert derive("noise", 1, 11) != derive("noise", 11, 1)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert _draws([generator("a")]) == _draws([generator("a")])
