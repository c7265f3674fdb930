"""Against a server that answers as timm's hub does."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from keyslice.config import Backbone as Settings
from keyslice.errors import UserError
from keyslice.models import backbone, hub

NAME = "test_vit"  # of a fixed input size, with a loader of its own for another format
TAGGED = "test_vit.r160_in1k"
SETTINGS = Settings(name=NAME, weights="imagenet")


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, list[str]]]:
    """A folder that a local hub offers, and the files that were asked of it so far."""
    folder, asked = tmp_path / "hub", []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(name := self.path.rpartition("/")[2])
            file = folder / name
            content = file.read_bytes() if file.is_file() else b""
            self.send_response(200 if content else 404)
            self.send_header("X-Error-Code" if not content else "ETag", "EntryNotFound")
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    download = partial(
        huggingface_hub.hf_hub_download, endpoint=endpoint, cache_dir=tmp_path / "cache"
    )
    monkeypatch.setattr(hub, "hf_hub_download", download)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("KEYSLICE_WEIGHTS", raising=False)
    yield folder, asked
    server.shutdown()
    server.server_close()


def test_the_hubs_safetensors_fill_the_backbone(offered):
    folder, _ = offered
    source = timm.create_model(NAME)
    torch.nn.init.constant_(source.get_submodule("norm").weight, 0.25)
    save_file(source.state_dict(), folder / hub.FILE)
    built, origin = backbone.build(SETTINGS, 160)
    assert origin.source == f"hub:{TAGGED}"
    expected = {k: v for k, v in source.state_dict().items() if not k.startswith("head.")}
    found = built.network.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_what_was_fetched_once_is_not_asked_for_again(offered):
    folder, asked = offered
    save_file(timm.create_model(NAME).state_dict(), folder / hub.FILE)
    backbone.build(SETTINGS, 160)
    assert set(asked) == {hub.FILE}
    asked.clear()
    backbone.build(SETTINGS, 160)
    assert asked == []


def test_weights_that_are_only_pickled_are_refused_and_not_fetched(offered):
    folder, asked = offered
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(UserError, match=f"no safetensors file of {NAME}; no pickled weights"):
        backbone.build(SETTINGS, 160)
    assert set(asked) == {hub.FILE}


def test_a_model_that_is_not_on_the_hub_is_refused():
    record = timm.get_pretrained_cfg("gcvit_base.in1k")  # a pickle on some other site
    with pytest.raises(UserError, match="no safetensors file of gcvit_base"):
        hub.fetched("gcvit_base", record)
