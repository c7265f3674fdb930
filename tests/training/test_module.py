import pytest
import torch
from torch.nn.functional import cross_entropy

from keyslice.models import build
from keyslice.models.classifier import Output
from keyslice.samplers.monitors import Figures
from keyslice.training.batches import Batch
from keyslice.training.module import (
    FitModule,
    _scores,
    class_weights,
    loss,
    monitor_figures,
    monitor_row,
)


def test_without_prefixes_the_loss_is_cross_entropy():
    logits, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    output = Output(logits, None, None)
    assert torch.equal(loss(output, labels), cross_entropy(logits, labels))


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 3.0])])
def test_prefixes_count_equally_within_an_exam_and_exams_by_their_class(weights):
    prefixes = torch.randn(2, 3, 2)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    labels = torch.tensor([0, 1])
    each = [
        cross_entropy(prefixes[b][mask[b]], labels[b].expand(int(mask[b].sum()))) for b in (0, 1)
    ]
    share = torch.ones(2) if weights is None else weights[labels]
    expected = (torch.stack(each) * share).sum() / share.sum()
    output = Output(prefixes[:, -1], None, None, prefixes, mask)
    torch.testing.assert_close(loss(output, labels, weights), expected)


def test_what_an_exam_has_no_frame_for_does_not_move_its_loss():
    mask = torch.tensor([[True, False]])
    prefixes = torch.randn(1, 2, 2)
    other = prefixes.clone()
    other[:, 1] = 1e3
    labels = torch.tensor([1])
    assert torch.equal(
        loss(Output(prefixes[:, -1], None, None, prefixes, mask), labels),
        loss(Output(other[:, -1], None, None, other, mask), labels),
    )


def test_class_weights_are_inverse_to_frequency_and_1_on_average():
    labels = torch.tensor([0] * 6 + [1] * 2)
    weights = class_weights(labels, 2)
    torch.testing.assert_close(weights[1] / weights[0], torch.tensor(3.0))
    torch.testing.assert_close(weights[labels].mean(), torch.tensor(1.0))


@pytest.mark.parametrize(("sampler", "rate"), [("dps", 1e-2), ("das", 5e-4)])
def test_the_sampler_has_its_own_learning_rate(stage_settings, sampler, rate):
    settings = stage_settings(sampler, learning_rate=1e-3, sampler_learning_rate=5e-4)
    model = build.fresh(settings, 0)
    module = FitModule(model, settings.train, seed=0, classes=2)
    rest, own = module.configure_optimizers().param_groups
    assert own["lr"] == pytest.approx(rate)
    assert rest["lr"] == 1e-3
    parameters = list(model.parameters())
    assert len(rest["params"]) + len(own["params"]) == len(parameters)


def test_monitors_survive_the_way_through_the_history():
    figures = Figures(distinct=1.0, positions=tuple(i / 45 for i in range(10)), entropy=0.5)
    assert monitor_figures(monitor_row(figures)) == figures


def _batch(labels):
    frames = torch.randint(0, 256, (4, 5, 1, 32, 32), dtype=torch.uint8)
    return Batch(frames, torch.full((4,), 5), torch.tensor(labels), tuple("abcd"))


def test_class_weights_reach_the_training_loss(stage_settings):
    batch, losses = _batch([0, 0, 0, 1]), []
    for weights in (None, torch.tensor([1.0, 1.0]), torch.tensor([0.2, 5.0])):
        settings = stage_settings("full")
        model = build.fresh(settings, 0)
        module = FitModule(model.eval(), settings.train, seed=0, classes=2, class_weights=weights)
        losses.append(module.training_step(batch).detach())
        module.validation_step(batch)
    torch.testing.assert_close(losses[0], losses[1])
    assert not torch.isclose(losses[0], losses[2])


def test_class_weights_reach_the_validation_loss(stage_settings):
    settings = stage_settings("full")
    weights = torch.tensor([1.0, 3.0])
    module = FitModule(
        build.fresh(settings, 0), settings.train, seed=0, classes=2, class_weights=weights
    )
    losses, labels = torch.tensor([1.0, 2.0]), torch.tensor([0, 1])
    torch.testing.assert_close(module._weighted(losses, labels), torch.tensor(7 / 4))


def test_the_auc_of_an_epoch_tells_confident_predictions_apart(stage_settings, monkeypatch):
    logits = torch.tensor([[0.0, 18.0], [0.0, 20.0], [0.0, 19.0], [0.0, 21.0]])
    settings = stage_settings("full")
    model = build.fresh(settings, 0)
    monkeypatch.setattr(model, "forward", lambda *_: Output(logits, None, None))
    module = FitModule(model, settings.train, seed=0, classes=2)
    module.validation_step(_batch([0, 1, 0, 1]))
    ((probabilities, labels, _),) = module._validation
    assert _scores(probabilities, labels)["validation_auc"] == 1


def test_weight_decay_reaches_the_optimiser(stage_settings):
    settings = stage_settings("das", weight_decay=0.01)
    module = FitModule(build.fresh(settings, 0), settings.train, seed=0, classes=2)
    assert {group["weight_decay"] for group in module.configure_optimizers().param_groups} == {0.01}


def test_adps_scores_all_prefixes_only_where_the_steps_are_averaged(stage_settings):
    settings = stage_settings("adps")
    batch = _batch([0, 1, 0, 1])
    for average in (True, False):
        own = settings.sampler_settings.model_copy(update={"average_steps": average})
        model = build.fresh(settings.model_copy(update={"sampler_settings": own}), 0)
        output = model.train()(batch.frames, batch.lengths, torch.Generator())
        assert (output.prefix_logits is not None) is average


def test_dropout_and_noise_change_with_the_epoch_and_the_seed(stage_settings, monkeypatch):
    settings = stage_settings("das")
    draws = set()
    with torch.random.fork_rng():
        for seed, epoch in ((0, 0), (0, 1), (1, 0)):
            module = FitModule(build.fresh(settings, 0), settings.train, seed=seed, classes=2)
            monkeypatch.setattr(FitModule, "current_epoch", epoch)
            module.on_train_epoch_start()
            draws.add((torch.rand(1).item(), torch.rand(1, generator=module.noise).item()))
    assert len({dropout for dropout, _ in draws}) == len({noise for _, noise in draws}) == 3
