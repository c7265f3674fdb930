import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from keyslice.config import Backbone as Settings
from keyslice.errors import UserError
from keyslice.models import backbone

TINY = "test_resnet"


def test_features_are_the_mean_of_the_last_map():
    encoder, origin = backbone.build(Settings(name=TINY, weights="none"), 32)
    frames = torch.randn(3, 3, 40, 24)
    encoder.eval()
    expected = encoder.network.forward_features(frames).mean((2, 3))
    torch.testing.assert_close(encoder(frames), expected)
    assert encoder.width == expected.shape[1]
    assert origin == backbone.WeightsOrigin("none", None)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_token_and_channels_last_models_encode_frames_too(name):
    encoder = backbone.create(name, 224)
    encoder.eval()
    assert encoder(torch.randn(2, 3, 224, 224)).shape == (2, encoder.width)


def test_every_parameter_of_mobilenet_is_used():
    encoder = backbone.create("mobilenetv3_small_100", 28)
    encoder(torch.randn(2, 3, 28, 28)).sum().backward()
    assert encoder.width == 576
    assert [n for n, p in encoder.named_parameters() if p.grad is None] == []


def test_weights_from_a_file_are_those_of_the_file(tmp_path):
    source, _ = backbone.build(Settings(name=TINY, weights="none"), 32)
    nn.init.constant_(next(source.parameters()), 0.25)
    save_file(source.network.state_dict(), tmp_path / "w.safetensors")
    loaded, origin = backbone.build(
        Settings(name=TINY, weights=str(tmp_path / "w.safetensors")), 32
    )
    assert all(map(torch.equal, source.state_dict().values(), loaded.state_dict().values()))
    assert origin.source == "w.safetensors"


def test_equal_weights_have_one_hash_and_others_another(tmp_path):
    source = backbone.create(TINY, 32).network.state_dict()
    hashes = []
    for name in ("a", "b", "c"):
        if name == "c":
            next(iter(source.values())).view(-1)[0] += 1
        file = tmp_path / f"{name}.safetensors"
        save_file(source, file, metadata={"written": name})
        hashes.append(backbone.build(Settings(name=TINY, weights=str(file)), 32)[1].sha256)
    assert hashes[0] == hashes[1] != hashes[2]


def test_frames_too_small_for_a_model_are_told():
    with pytest.raises(UserError, match=r"convnext_atto cannot encode frames of 28x28 pixels"):
        backbone.create("convnext_atto", 28)


def test_a_network_that_gives_several_maps_is_told():
    with pytest.raises(UserError, match=r"efficientvim_m1 gives a list of maps"):
        backbone.create("efficientvim_m1", 64)


def test_the_folder_of_weights_is_found_by_the_models_name(tmp_path, monkeypatch):
    (tmp_path / f"{TINY}.x.safetensors").touch()
    monkeypatch.setenv("KEYSLICE_WEIGHTS", str(tmp_path))
    found = backbone.weights_file(Settings(name=TINY))
    assert found == tmp_path / f"{TINY}.x.safetensors"
    assert backbone.weights_file(Settings(name="resnet18")) is None


def test_of_several_files_of_a_model_none_is_taken_unless_its_tag_is_named(tmp_path, monkeypatch):
    for tag in ("b_in1k", "a_in1k"):
        (tmp_path / f"{TINY}.{tag}.safetensors").touch()
    monkeypatch.setenv("KEYSLICE_WEIGHTS", str(tmp_path))
    both = rf"{TINY}\.a_in1k\.safetensors, {TINY}\.b_in1k\.safetensors"
    with pytest.raises(UserError, match=rf"KEYSLICE_WEIGHTS .*several files.*{both}"):
        backbone.weights_file(Settings(name=TINY))
    found = backbone.weights_file(Settings(name=f"{TINY}.b_in1k"))
    assert found == tmp_path / f"{TINY}.b_in1k.safetensors"


def test_a_folder_of_weights_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("KEYSLICE_WEIGHTS", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"KEYSLICE_WEIGHTS: no such folder"):
        backbone.weights_file(Settings(name=TINY))
    assert backbone.weights_file(Settings(name=TINY, weights="none")) is None


def test_a_model_that_timm_has_no_weights_for_says_so(monkeypatch):
    monkeypatch.delenv("KEYSLICE_WEIGHTS", raising=False)
    with pytest.raises(UserError, match=r"timm has no weights for coatnet_0_224.*weights to none"):
        backbone.build(Settings(name="coatnet_0_224"), 224)


def test_an_unknown_tag_of_a_known_model_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"did you mean 'mobilenetv3_small_100\.lamb_in1k'"):
        backbone.create("mobilenetv3_small_100.lam_in1k", 28)


def test_an_unknown_model_is_named_with_the_nearest_known():
    with pytest.raises(UserError, match=r"'mobilenetv3_smal_100'.*did you mean 'mobilenetv3_small"):
        backbone.create("mobilenetv3_smal_100", 28)


def test_a_missing_weights_file_is_named():
    with pytest.raises(UserError, match=r"backbone\.weights: no such file: nowhere\.safetensors"):
        backbone.build(Settings(name=TINY, weights="nowhere.safetensors"), 32)


def test_weights_of_another_model_are_refused(tmp_path):
    save_file({"stem.weight": torch.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="does not fit test_resnet"):
        backbone.build(Settings(name=TINY, weights=str(tmp_path / "w.safetensors")), 32)


def test_a_truncated_weights_file_is_refused(tmp_path):
    file = tmp_path / "w.safetensors"
    save_file({"stem.weight": torch.zeros(300)}, file)
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(UserError, match="does not fit test_resnet"):
        backbone.build(Settings(name=TINY, weights=str(file)), 32)


def test_a_hub_out_of_reach_is_one_line_with_the_way_out(monkeypatch):
    monkeypatch.delenv("KEYSLICE_WEIGHTS", raising=False)
    with pytest.raises(UserError, match=r"could not be fetched.*KEYSLICE_WEIGHTS"):
        backbone.build(Settings(name="mobilenetv3_small_100", weights="imagenet"), 28)


def test_a_hub_out_of_reach_names_the_folder_that_was_looked_through(tmp_path, monkeypatch):
    monkeypatch.setenv("KEYSLICE_WEIGHTS", str(tmp_path))
    with pytest.raises(UserError, match=rf"and KEYSLICE_WEIGHTS \({tmp_path}\) holds none"):
        backbone.build(Settings(name="mobilenetv3_small_100", weights="imagenet"), 28)


def test_torchvisions_weights_give_torchvisions_features():
    folder = os.environ.get("KEYSLICE_WEIGHTS", "")
    files = sorted(Path(folder).glob("mobilenetv3_small_100.tv_*")) if folder else []
    if not files:
        pytest.skip("KEYSLICE_WEIGHTS holds no torchvision weights of mobilenetv3_small_100")
    ours, _ = backbone.build(Settings(weights=str(files[0])), 28)
    with_epsilon = [m.eps for m in ours.modules() if isinstance(m, nn.BatchNorm2d)]
    assert set(with_epsilon) == {1e-3}
    assert backbone.normalisation(ours).mean == (0.485, 0.456, 0.406)
