"""What every decoder and every network promises."""

import pytest
import torch

import roadseg
from roadseg.errors import ModelError
from roadseg.models.backbones import BACKBONES
from roadseg.models.zoo import DECODERS, build_backbone, why_unfit

PAIRS = [
    ("twins_svt_nano", "linear_concat"),
    ("twins_pcpvt_small", "linear_concat"),
    ("resnet18", "linear_concat"),
    ("twins_svt_nano", "fpn"),
    ("twins_svt_nano", "upernet"),
    ("pvt_v2_b0", "upernet"),
    ("swin_tiny", "linear_concat"),
    ("halonet26t", "linear_concat"),
    ("convnext_tiny", "fpn"),
    ("resnet18", "deeplabv3plus"),
    ("mobilenetv2_100", "deeplabv3plus"),
    ("mobilenetv3_large_100", "deeplabv3plus"),
    ("convnext_tiny", "deeplabv3plus"),
]


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (33, 47), (64, 192), (45, 32)])
@pytest.mark.parametrize(("backbone", "decoder"), PAIRS)
def test_logits_have_the_size_of_the_image(backbone, decoder, size):
    network = roadseg.build_model(backbone, decoder, 5).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, *size)).shape == (2, 5, *size)


@pytest.mark.parametrize(("backbone", "decoder"), PAIRS)
def test_gradients_reach_every_parameter(backbone, decoder):
    torch.manual_seed(0)
    network = roadseg.build_model(backbone, decoder, 5).train()
    network(torch.rand(2, 3, 64, 96) * 255).square().mean().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert without == []


DETAIL = {"stem": "detail", "pattern": ["C", "C", "CG", "CG"], "depths": 1}


@pytest.mark.parametrize("resize", ["direct", "stepwise"])
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (33, 47), (64, 192)])
def test_a_feature_of_stride_2_gives_logits_of_any_size(size, resize):
    network = roadseg.build_model(backbone_options=DETAIL, backbone="twins_svt_nano", num_classes=5, resize=resize)
    with torch.inference_mode():
        assert network.eval()(torch.zeros(2, 3, *size)).shape == (2, 5, *size)
        assert network.decoder(network.features(torch.zeros(1, 3, 64, 96))).shape == (1, 5, 32, 48)


@pytest.mark.parametrize("decoder", ["fpn", "upernet"])
def test_peers_read_the_four_features_that_they_know(decoder):
    torch.manual_seed(0)
    network = roadseg.build_model("twins_svt_nano", decoder, 5, backbone_options=DETAIL).eval()
    features = network.features(torch.rand(1, 3, 64, 96) * 255)
    with torch.inference_mode():
        assert torch.equal(network.decoder(features), network.decoder(features[1:]))
    assert [f.shape[1] for f in features] == network.backbone.out_channels == [16, 32, 64, 160, 256]


def test_uint8_and_float_images_give_the_same_logits():
    network = roadseg.build_model("twins_svt_nano", num_classes=5, width=16).eval()
    image = torch.randint(0, 256, (1, 3, 40, 50), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(network(image), network(image.float()))


def test_normalisation_is_part_of_the_network():
    network = roadseg.build_model("resnet18", num_classes=2, mean=(10, 20, 30), std=(2, 4, 8)).eval()
    seen = []
    network.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network(torch.tensor([12.0, 28.0, 22.0]).view(1, 3, 1, 1).expand(1, 3, 32, 32))
    assert seen[0][0, :, 5, 5].tolist() == [1.0, 2.0, -1.0]
    assert {"mean", "std"} <= set(network.state_dict())


def test_padding_does_not_reach_the_logits_of_images_that_need_none():
    network = roadseg.build_model("twins_svt_nano", num_classes=3, width=16).eval()
    seen = []
    network.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    network(torch.zeros(1, 3, 64, 96))
    network(torch.zeros(1, 3, 65, 97))
    assert seen == [(1, 3, 64, 96), (1, 3, 96, 128)]


def test_nano_has_the_size_it_is_documented_with():
    network = roadseg.build_model("twins_svt_nano", "linear_concat", 11, width=128)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == 4.4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "twins_svt_smal"}, "no backbone 'twins_svt_smal'; known: convnext_base, .*twins_svt_small"),
        ({"decoder": "unet"}, "no decoder 'unet'; known: deeplabv3plus, fpn, linear_concat, upernet"),
        ({"widht": 64}, "decoder 'linear_concat' has no option 'widht'; it has width, fuse, dropout"),
        ({"num_classes": 0}, "num_classes is 0; use 1 to 255"),
        ({"num_classes": 256}, "num_classes is 256"),
        ({"drop_path_rate": 1.0}, "drop_path_rate is 1.0"),
        ({"decoder": "deeplabv3plus"}, "can be dilated.*'twins_svt_small' does not fit; use convnext_base, .*resnet50"),
        (
            {"backbone": "twins_svt_nano", "pretrained": True},
            "nobody has published ImageNet weights for 'twins_svt_nano'",
        ),
        (
            {"backbone_options": {"widow_size": 7}},
            "backbone 'twins_svt_small' has no option 'widow_size'; it has embed",
        ),
        ({"backbone": "resnet18", "backbone_options": {"padding": "mask"}}, "'resnet18' has no option .*; it has none"),
        ({"backbone_options": "padding"}, "the options of backbone 'twins_svt_small' are 'padding'; use names"),
        ({"backbone_options": {"num_heads": "two"}}, "num_heads"),
        ({"pretrained": 1.5}, "pretrained is 1.5; use true, false, a name on the hub, or a file"),
        ({"pretrained": None}, "pretrained is None"),
        ({"num_classes": 2.5}, "num_classes is 2.5; use 1 to 255"),
        ({"num_classes": True}, "num_classes is True"),
        ({"drop_path_rate": "0.1"}, "drop_path_rate is '0.1'"),
        ({"mean": (1, 2)}, r"mean is \(1, 2\); use three finite numbers"),
        ({"std": (0, 1, 1)}, r"std is \(0, 1, 1\); use three finite numbers"),
        ({"backbone": ["x"]}, "no backbone"),
        ({"backbone_options": {"padding": "mirror"}}, "padding is 'mirror'; use one of: zero, mask"),
    ],
)
def test_what_cannot_work_is_refused_by_name(arguments, message):
    with pytest.raises(ModelError, match=message):
        roadseg.build_model(**arguments)


def test_known_names_are_sorted():
    assert roadseg.list_backbones() == sorted(BACKBONES)
    assert roadseg.list_decoders() == ["deeplabv3plus", "fpn", "linear_concat", "upernet"]


def test_one_image_cannot_train_a_pooled_batch_norm():
    network = roadseg.build_model("resnet18", "deeplabv3plus", 3).train()
    with pytest.raises(ModelError, match="cannot train on a batch of 1; use a batch size of 2"):
        network(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("decoder", sorted(DECODERS))
@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_every_pair_of_the_support_matrix_is_built_or_refused_with_a_reason(backbone, decoder):
    reason = why_unfit(backbone, decoder)
    with torch.device("meta"):
        if reason is None:
            logits = roadseg.build_model(backbone, decoder, 3).eval()(torch.empty(1, 3, 64, 96))
            assert logits.shape == (1, 3, 64, 96)
        else:
            with pytest.raises(ModelError, match="can be dilated"):
                roadseg.build_model(backbone, decoder, 3)


def test_a_classifier_takes_images_of_any_size():
    torch.manual_seed(0)
    network = roadseg.build_classifier("twins_svt_nano", 7).eval()
    image = torch.randint(0, 256, (2, 3, 45, 33), dtype=torch.uint8)
    with torch.inference_mode():
        logits = network(image)
        normalised = (image.float() - network.mean) / network.std
        tokens = network.backbone(normalised)[-1].mean((2, 3))
    assert logits.shape == (2, 7)
    assert tokens.shape == (2, 256)
    with pytest.raises(ModelError, match="'resnet18' has no classifier here, timm trains it; use halonet_h0"):
        roadseg.build_classifier("resnet18", 7)
    with pytest.raises(ModelError, match="num_classes is 0; use at least 1"):
        roadseg.build_classifier("twins_svt_nano", 0)
    with pytest.raises(ModelError, match="backbone 'halonet_h0' has no option 'padding'; it has none"):
        roadseg.build_classifier("halonet_h0", 7, backbone_options={"padding": "mask"})


def test_a_backbone_alone_checks_what_it_is_given():
    for arguments, message in (
        ({"options": {"x": 1}}, "has no option 'x'"),
        ({"output_stride": 16}, "output_stride is 16; backbone 'twins_svt_nano' has 32"),
        ({"num_classes": -1}, "num_classes is -1; use at least 0"),
    ):
        with pytest.raises(ModelError, match=message):
            build_backbone("twins_svt_nano", **arguments)
