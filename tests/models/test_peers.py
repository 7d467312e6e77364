"""Backbones against timm, decoders against segmentation-models-pytorch, with the same weights."""

import huggingface_hub
import pytest
import safetensors.torch
import segmentation_models_pytorch as smp
import timm
import torch

import roadseg
from roadseg.errors import ModelError
from roadseg.models.backbones import BACKBONES


@pytest.mark.parametrize("name", ["twins_svt_small", "twins_pcpvt_small", "resnet18"])
def test_backbone_takes_timms_weights_and_gives_its_features(name):
    torch.manual_seed(0)
    ours = roadseg.build_model(name).backbone.double().eval()
    theirs = timm.create_model(name, features_only=True, out_indices=(-4, -3, -2, -1)).double().eval()
    weights = timm.create_model(name).double().state_dict()
    ours.load_state_dict({k: v for k, v in weights.items() if not k.startswith(("head.", "norm.", "fc."))})
    theirs.load_state_dict({f"model.{k}": v for k, v in weights.items()} | weights, strict=False)
    image = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    for a, b in zip(ours(image), theirs(image), strict=True):
        assert (a - b).abs().max() <= 1e-10 * b.abs().max()


@pytest.mark.parametrize(
    ("decoder", "library", "encoder"),
    [
        ("deeplabv3plus", smp.DeepLabV3Plus, "resnet18"),
        ("fpn", smp.FPN, "tu-twins_svt_small"),
        ("upernet", smp.UPerNet, "tu-twins_svt_small"),
    ],
)
def test_decoder_is_the_librarys(decoder, library, encoder):
    torch.manual_seed(0)
    ours = roadseg.build_model(encoder.removeprefix("tu-"), decoder, 5).double().eval()
    theirs = library(
        encoder, encoder_weights=None, classes=5, **({"decoder_channels": 256} if decoder != "fpn" else {})
    )
    theirs = theirs.double().eval()
    ours.decoder.decoder.load_state_dict(theirs.decoder.state_dict())
    ours.decoder.head.load_state_dict(theirs.segmentation_head.state_dict())
    image = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    features = ours.backbone(image)
    at_stride_2 = torch.empty(2, 64, 32, 48, dtype=torch.float64)
    expected = theirs.segmentation_head[0](theirs.decoder([image, at_stride_2, *features]))
    assert expected.shape == (2, 5, 16, 24)
    assert (ours.decoder(features) - expected).abs().max() <= 1e-10 * expected.abs().max()


def test_deeplabs_rates_are_the_dilations_of_its_pyramid():
    for rates in ((12, 24, 36), (3, 6, 9)):
        options = {} if rates == (12, 24, 36) else {"atrous_rates": list(rates)}
        decoder = roadseg.build_model("resnet18", "deeplabv3plus", 5, **options).decoder
        dilated = [m.dilation for m in decoder.modules() if isinstance(m, torch.nn.Conv2d) and m.dilation != (1, 1)]
        assert dilated == [(rate, rate) for rate in rates]
    for rates in ([6, 12], [6, 12, 0], [6, 12, 18.0], "6,12,18"):
        with pytest.raises(ModelError, match="atrous_rates is .*; use three whole numbers of 1 or more"):
            roadseg.build_model("resnet18", "deeplabv3plus", 5, atrous_rates=rates)


@pytest.mark.parametrize("name", ["twins_svt_small", "resnet18", "swin_tiny"])
def test_published_weights_reach_the_backbone(name, monkeypatch, tmp_path):
    public = BACKBONES[name].public
    weights = timm.create_model(public.hub_name.removeprefix("timm/").partition(".")[0]).state_dict()
    safetensors.torch.save_file(weights, tmp_path / "model.safetensors")
    asked = []

    def download(repo_id, filename, **options):
        asked.append((repo_id, filename))
        return str(tmp_path / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    backbone = roadseg.build_model(name, pretrained=True).backbone
    assert asked == [(public.hub_name, "model.safetensors")]
    assert all(torch.equal(tensor, weights[key]) for key, tensor in backbone.state_dict().items())
    assert set(backbone.load_report.loaded) == set(backbone.state_dict())
    assert set(backbone.load_report.ignored) == set(weights) - set(backbone.state_dict())
    assert backbone.load_report.missing == ()


def test_unreachable_weights_are_named_with_a_way_out(monkeypatch):
    def offline(*args, **options):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no route to host")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(ModelError, match=r"twins_svt_small\.in1k.*pretrained"):
        roadseg.build_model("twins_svt_small", pretrained=True)


def test_weights_of_another_network_are_refused_whole(tmp_path):
    torch.save(timm.create_model("twins_svt_small").state_dict(), tmp_path / "small.pth")
    with pytest.raises(ModelError, match="small.pth.*twins_svt_small"):
        roadseg.build_model("twins_svt_base", pretrained=str(tmp_path / "small.pth"))
    with pytest.raises(ModelError, match=r"pos_block"):
        roadseg.build_model(
            "twins_svt_small", pretrained=str(tmp_path / "small.pth"), backbone_options={"position": "none"}
        )
    masked = roadseg.build_model(
        "twins_svt_small", pretrained=str(tmp_path / "small.pth"), backbone_options={"padding": "mask"}
    )
    assert masked.backbone.load_report.layout == "timm"


@pytest.mark.parametrize("name", ["twins_svt_nano", "swin_tiny", "convnext_tiny", "mobilenetv3_large_100", "pvt_v2_b0"])
def test_checkpoints_of_this_project_start_the_same_backbone(name, tmp_path):
    trained = roadseg.build_model(name, num_classes=3)
    state = {f"network.{key}": tensor for key, tensor in trained.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "best.ckpt")
    started = roadseg.build_model(name, num_classes=5, pretrained=str(tmp_path / "best.ckpt")).backbone
    expected = trained.backbone.state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in started.state_dict().items())
    assert started.load_report.missing == () and started.load_report.layout == "roadseg"


def test_what_an_option_adds_is_reported_as_missing(tmp_path):
    torch.save(timm.create_model("swin_tiny_patch4_window7_224").state_dict(), tmp_path / "swin.pth")
    backbone = roadseg.build_model(
        "swin_tiny", pretrained=str(tmp_path / "swin.pth"), backbone_options={"position": "peg"}
    ).backbone
    report = backbone.load_report
    assert len(report.missing) == 8 and all(".peg." in key for key in report.missing)
    assert sum("relative_position_bias_table" in key for key in report.ignored) == 12
    assert set(report.loaded) | set(report.missing) == set(backbone.state_dict())
