import torch

from keyslice.training.batches import EpochShuffle, Exams, training_loader

CLASSES = ("no", "yes")


def test_a_batch_is_padded_to_its_longest_exam_with_empty_frames(store):
    exams = Exams(store, "train", CLASSES)
    batch = exams.collate([0, 1, 2])
    assert batch.frames.shape[:2] == (3, int(batch.lengths.max()))
    for b, row in enumerate(exams.rows[:3]):
        length = int(batch.lengths[b])
        assert torch.equal(batch.frames[b, :length], torch.tensor(store.frames(row)))
        assert (batch.frames[b, length:] == 0).all()
    assert batch.labels.tolist() == [0, 1, 0]


def test_the_order_follows_from_seed_and_epoch_alone():
    shuffle = EpochShuffle(50, seed=1)
    first = list(shuffle)
    assert sorted(first) == list(range(50))
    assert list(shuffle) == first
    shuffle.set_epoch(1)
    assert list(shuffle) != first
    assert list(EpochShuffle(50, seed=2)) != first


def test_a_last_batch_of_one_exam_is_left_out_of_training(store):
    exams = Exams(store, "train", CLASSES)
    sizes = [len(batch) for batch in training_loader(exams, 23, seed=0)]
    assert sizes == [23]
    assert [len(batch) for batch in training_loader(exams, 10, seed=0)] == [10, 10, 4]
