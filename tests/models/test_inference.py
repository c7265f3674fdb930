import torch

from keyslice.models import build
from keyslice.models.inference import infer, multiply_accumulates


def _exam(length: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (1, length, 1, 32, 32), dtype=torch.uint8, generator=generator)


def test_cost_is_that_of_the_kept_frames(stage_settings):
    full = build.fresh(stage_settings("full"), seed=0)
    half = build.fresh(stage_settings("uniform", keep=0.5), seed=0)
    full.eval(), half.eval()
    ratio = multiply_accumulates(half, _exam(12)) / multiply_accumulates(full, _exam(12))
    assert 0.5 <= ratio < 0.501  # the classifier's share is the same for both


def test_the_count_is_that_of_a_known_convolution(stage_settings):
    model = build.fresh(stage_settings("full"), seed=0)
    model.eval()
    # 3 → 4 channels, 3×3 kernel, stride 2: 16×16 outputs of 32×32 frames; the rest is constant.
    model.backbone = Encoder()
    model.attention.score = torch.nn.Linear(4, 1, bias=False)
    model.head = torch.nn.Linear(4, 2, bias=False)
    convolution, scores, pooled, head = 5 * 16 * 16 * 4 * 3 * 9, 5 * 4, 5 * 4, 4 * 2
    assert multiply_accumulates(model, _exam(5)) == convolution + scores + pooled + head


class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def forward(self, frames):
        return self.convolution(frames).mean((2, 3))


def test_an_exams_output_lists_only_its_own_frames(stage_settings):
    model = build.fresh(stage_settings("das", keep=0.5), seed=0)
    model.eval()
    frames = torch.cat([_exam(8), _exam(8)])
    first, second = infer(model, frames, torch.tensor([8, 4]), ["a", "b"], seed=0)
    assert len(first.kept) == len(first.attention) == 4
    assert len(second.kept) == len(second.attention) == 2
    assert max(second.kept) < 4
    assert abs(sum(first.probabilities) - 1) < 1e-9
