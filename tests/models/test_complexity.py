"""Counts against hand computations and the papers' figures, and docs/models.md against the code and the counts."""

import inspect
import json
import math
import re
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from torch.nn import functional as F

import roadseg
from benchmarks.complexity import markdown, mmsegmentation_upernet
from roadseg.errors import ConfigError, ModelError
from roadseg.image_size import LARGEST_SIDE_PX, parse_size
from roadseg.models.backbones import BACKBONES, shapes_of
from roadseg.models.complexity import ATTENTION_PRODUCTS, count_macs, count_parameters, macs_by_part
from roadseg.models.table import count_models, count_parts, models_text, support_table
from roadseg.models.zoo import DECODERS, build_backbone, build_classifier, build_model, why_unfit

ROOT = Path(roadseg.__file__).parents[1]
PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
COUNTED = json.loads((ROOT / "benchmarks" / "results" / "complexity.json").read_text(encoding="utf-8"))


def on_meta(name: str, **options: object) -> nn.Module:
    with torch.device("meta"):
        return build_backbone(name, **options)


def products(name: str, size: tuple[int, int], **options: object) -> dict[str, int]:
    """Attention products of each stage."""
    parts = macs_by_part(on_meta(name, **options), size)
    return {part.module: part.macs for part in parts if part.part == ATTENTION_PRODUCTS}


class Attending(nn.Module):
    """A convolution to tokens, and attention of 2 heads of 4 channels among them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, stride=4)
        self.qkv = nn.Linear(8, 24)

    def forward(self, image):
        tokens = self.embed(image).flatten(2).transpose(1, 2)
        query, key, value = self.qkv(tokens).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(query, key, value)


def test_convolution_linear_and_attention_by_hand():
    network, positions = Attending(), (16 // 4) * (24 // 4)
    embedding, linear, attention = positions * 3 * 16 * 8, positions * 8 * 24, 2 * (2 * positions * positions * 4)
    assert count_macs(network, (16, 24)) == embedding + linear + attention
    assert count_parameters(network) == 3 * 16 * 8 + 8 + 8 * 24 + 24


def test_the_network_is_left_as_it_was():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)).train()
    network[1].eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert count_macs(network, (6, 5)) == 4 * 3 * (27 * 4 + 4 * 2)
    assert [child.training for child in network] == [True, False, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert network(torch.zeros(2, 3, 6, 5)).device.type == "cpu"
    assert not any(child._forward_hooks or child._forward_pre_hooks for child in network.modules())


def test_every_part_of_a_small_twins_by_hand():
    """Windows of 7 pad stage 1's 8x16 positions to 14x21, and the others' alike; the last stage has both kinds too."""
    counts = {(part.module, part.part): part.macs for part in macs_by_part(on_meta("twins_svt_nano"), (32, 64))}
    expected, before = {}, 3
    stages = zip((32, 64, 160, 256), (8, 4, 2, 1), (1, 1, 3, 1), strict=True)
    for stage, (dim, ratio, pairs) in enumerate(stages):
        height, width = 32 // 2 ** (stage + 2), 64 // 2 ** (stage + 2)
        positions, windows = height * width, math.ceil(height / 7) * math.ceil(width / 7)
        summary = math.ceil(height / ratio) * math.ceil(width / ratio)
        local, in_windows = windows * 2 * 49 * 49 * dim, windows * 49 * 3 * dim**2
        expected[f"patch_embeds.{stage}", "embedding"] = positions * before * (16 if stage == 0 else 4) * dim
        expected[f"blocks.{stage}", ATTENTION_PRODUCTS] = pairs * (local + 2 * positions * summary * dim)
        projections = in_windows + positions * dim**2 + (2 * positions + 2 * summary) * dim**2
        expected[f"blocks.{stage}", "attention projections"] = pairs * projections
        expected[f"blocks.{stage}", "MLP"] = 2 * pairs * positions * 8 * dim**2
        if ratio > 1:
            expected[f"blocks.{stage}", "subsampling"] = pairs * summary * ratio**2 * dim**2
        expected[f"pos_block.{stage}", "positional encoding"] = positions * 9 * dim
        before = dim
    assert {place: macs for place, macs in counts.items() if macs} == expected


def test_convolutions_in_the_place_of_attention_by_hand():
    """Each of the two blocks: a depthwise 7x7 convolution and a projection of 8x16 positions."""
    parts = macs_by_part(on_meta("twins_svt_nano", options={"pattern": "C"}), (32, 64))
    counted = {part.part: part.macs for part in parts if part.module == "blocks.0"}
    assert counted["convolution mixing"] == 2 * 8 * 16 * (49 * 32 + 32 * 32)
    assert "attention projections" not in counted and ATTENTION_PRODUCTS not in counted


def test_halo_attention_by_hand():
    """Each block of 7x7 sees 13x13; each query has a term for every row and every column that it sees."""
    counted = products("twins_svt_nano", (32, 64), options={"pattern": "H", "halo_size": 3})
    dim, blocks, depth, queries, keys = 32, 2 * 3, 2, 49, 13 * 13
    assert counted["blocks.0"] == depth * blocks * dim * queries * (2 * keys + 13 + 13)


def test_swins_and_halonets_products_by_hand():
    """At 224x224 Swin's windows of 7 need no padding; HaloNet's blocks of 8 see 14x14, and a stride leaves 4x4."""
    swin = products("swin_tiny", (224, 224))
    assert [swin[f"layers.{i}"] for i in range(4)] == [
        depth * 2 * (56 // 2**i) ** 2 * 49 * 96 * 2**i for i, depth in enumerate((2, 2, 6, 2))
    ]
    halo = products("halonet_h0", (256, 256))
    keys, heads, head_dim = 14 * 14, 64 // 16, 16
    # timm computes the terms of rows and of columns for all 2 * 14 - 1 offsets, then takes those that are needed.
    one_block = heads * head_dim * 64 * (2 * keys + 2 * 27)
    assert halo["stages.0"] == 3 * (64 // 8) ** 2 * one_block


@pytest.mark.parametrize("name", ["swin_tiny", "pvt_v2_b0", "halonet_h0", "halonet26t", "convnext_tiny", "resnet18"])
def test_parts_add_up_to_the_whole(name):
    network = on_meta(name)
    parts = macs_by_part(network, (96, 64))
    assert sum(part.macs for part in parts) == count_macs(network, (96, 64))
    assert sum(part.parameters for part in parts) == count_parameters(network)
    assert min(part.macs for part in parts) >= 0
    assert all(part.part != "other" or part.macs == 0 for part in parts)


def test_decoder_and_classifier_are_parts():
    with torch.device("meta"):
        segmenter, classifier = build_model("resnet18", "fpn", 5), build_classifier("twins_svt_nano", 10)
    parts = {part.module: part for part in macs_by_part(segmenter, (64, 64))}
    assert parts["decoder"].parameters == count_parameters(segmenter.decoder)
    parts = {part.part: part for part in macs_by_part(classifier, (64, 64))}
    assert (parts["classifier"].macs, parts["classifier"].parameters) == (256 * 10, 256 * 10 + 10)


@pytest.mark.parametrize("options", [{}, {"stem": "detail", "pattern": ["C", "C", "CG", "CG"]}])
def test_a_network_with_memory_counts_as_one_without(options):
    counts = []
    for device in ("cpu", "meta"):
        with torch.device(device):
            network = roadseg.build_model("twins_svt_nano", num_classes=14, width=16, backbone_options=options)
        counts.append((count_macs(network, (64, 96)), {row.module for row in macs_by_part(network, (64, 96))}))
    assert counts[0] == counts[1] and ("detail" in counts[0][1]) == bool(options)


@pytest.mark.parametrize("size", [(0, 5), (5, -1), (LARGEST_SIDE_PX + 1, 5)])
def test_an_image_size_that_cannot_be_is_refused(size):
    with pytest.raises(ModelError, match=f"the image size is {size[0]}x{size[1]}; use sides from 1 to 65536 px"):
        count_macs(nn.Conv2d(3, 1, 1), size)


def test_the_largest_size_can_be_counted():
    counts = macs_by_part(on_meta("twins_svt_nano"), (LARGEST_SIDE_PX, LARGEST_SIDE_PX))
    first = next(part.macs for part in counts if part.part == "embedding")
    assert first == (LARGEST_SIDE_PX // 4) ** 2 * 3 * 16 * 32


@pytest.mark.parametrize(
    "text", ["512", "0x5", "5x0", "512x", "x512", "512X512", "-1x5", "512x512x3", "65537x1", "٣x٣"]
)
def test_a_size_that_is_none_is_named(text):
    message = re.escape(f"--window is '{text}'; use HEIGHTxWIDTH in pixels, such as 512x1024")
    with pytest.raises(ConfigError, match=message):
        parse_size(text, "--window")


def test_pairs_that_do_not_fit_have_no_counts_but_a_reason():
    names = ["twins_svt_nano", "pvt_v2_b0", "resnet18"]
    models = list(count_models(names, [(64, 64)], "deeplabv3plus", 3))
    assert [model.parameters is None for model in models] == [True, True, False]
    assert models[0].unfit == why_unfit("twins_svt_nano", "deeplabv3plus")
    text = models_text(models, [(64, 64)])
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert lines["twins_svt_nano"][1:3] == lines["pvt_v2_b0"][1:3] == ["-", "-"]
    assert "needs a backbone whose last stage can be dilated" in text and "the same holds for pvt_v2_b0" in text
    with pytest.raises(ModelError, match="'pvt_v2_b0' does not fit"):
        count_parts("pvt_v2_b0", [(64, 64)], "deeplabv3plus")


def test_the_whole_table_fits_120_columns():
    names = ["twins_svt_nano", "swin_small", "mobilenetv4_conv_small"]  # the longest names and sources among them
    longest = max(len(spec.public.hub_name) for spec in BACKBONES.values() if spec.public)
    assert longest == len(BACKBONES["swin_small"].public.hub_name) and max(map(len, BACKBONES)) <= 23
    text = models_text(list(count_models(names, [(32, 32), (32, 64)])), [(32, 32), (32, 64)])
    assert max(map(len, text.splitlines())) + 23 - len("mobilenetv4_conv_small") <= 120
    assert text.count("\n\n") == 2  # a gap between families


@pytest.mark.parametrize("row", COUNTED["classifiers"]["rows"], ids=lambda row: row["backbone"])
def test_the_papers_figures(row):
    """Its parameters are cut off after one decimal; its operations are rounded and lack attention's products."""
    assert math.floor(row["parameters"] / 1e5) / 10 == row["published_parameters_m"]
    assert round(row["macs_without_attention_products"] / 1e9, 1) == row["published_gmacs"]
    assert row["macs"] / 1e9 == pytest.approx(row["published_gmacs"], rel=0.05)


@pytest.mark.parametrize("row", COUNTED["segmenters"]["rows"], ids=lambda row: row["backbone"])
def test_the_papers_segmenters_are_ours_with_their_decoder(row):
    assert row["mmsegmentation_parameters"] / 1e6 == pytest.approx(row["published_parameters_m"], rel=0.01)
    assert row["mmsegmentation_macs"] / 1e9 == pytest.approx(row["published_gmacs"], rel=0.005)


def test_the_counts_on_record_are_those_of_the_code():
    row = COUNTED["classifiers"]["rows"][0]
    with torch.device("meta"):
        network = build_classifier(row["backbone"], 1000)
    assert (count_parameters(network), count_macs(network, (224, 224))) == (row["parameters"], row["macs"])
    row = next(row for row in COUNTED["segmenters"]["rows"] if row["backbone"] == "twins_pcpvt_small")
    for decoder in ("upernet", "linear_concat"):
        with torch.device("meta"):
            network = build_model(row["backbone"], decoder, 150)
        counts = row[f"{decoder}_parameters"], row[f"{decoder}_macs"]
        assert (count_parameters(network), count_macs(network, (512, 512))) == counts
    assert mmsegmentation_upernet((64, 128, 320, 512), 150, (512, 512))[1] == row["mmsegmentation_decoder_macs"]
    for row in COUNTED["halonets"]["rows"]:
        with torch.device("meta"):
            assert count_parameters(build_classifier(row["backbone"], 1000)) == row["parameters"]


def test_the_page_has_the_counts_on_record():
    for table in markdown(COUNTED).values():
        assert table in PAGE


def test_what_the_page_says_of_the_counts():
    page = " ".join(PAGE.split())
    above = [row["macs"] / 1e7 / row["published_gmacs"] - 100 for row in COUNTED["classifiers"]["rows"]]
    assert f"All operations are {min(above):.1f} to {max(above):.1f} % above the paper's" in page
    rows = COUNTED["segmenters"]["rows"]
    decoders = [row["mmsegmentation_decoder_macs"] / 1e9 for row in rows]
    assert f"the decoder has {min(decoders):.0f} to {max(decoders):.0f} G for each backbone" in page
    lacking = [
        100 - (row["mmsegmentation_macs"] - row["attention_products"]) / 1e7 / row["published_gmacs"] for row in rows
    ]
    assert f"the sums would be {min(lacking):.1f} to {max(lacking):.1f} % short" in page
    size = (512, 1024)
    share = sum(products("twins_svt_small", size).values()) / count_macs(on_meta("twins_svt_small"), size)
    assert f"At 512x1024 the products are {100 * share:.0f} % of Twins-SVT-S" in page


def test_the_page_says_what_fits_what():
    assert support_table() in PAGE and "DeepLabV3+ needs a dilatable encoder" in PAGE
    rows = [line.strip("| ").split(" | ") for line in support_table().splitlines()]
    decoders = [name.strip("`") for name in rows[0][1:]]
    said = {
        (backbone.strip("`"), decoder): mark == "yes"
        for names, *marks in rows[2:]
        for backbone in names.split(", ")
        for decoder, mark in zip(decoders, marks, strict=True)
    }
    assert said == {(b, d): why_unfit(b, d) is None for b in BACKBONES for d in DECODERS}


def test_the_page_lists_all_options_and_licences():
    for option in BACKBONES["twins_svt_nano"].option_names:
        assert f"`{option}`" in PAGE
    licences = {spec.public.licence for spec in BACKBONES.values() if spec.public}
    assert licences == {"apache-2.0", "mit"}
    for name, spec in BACKBONES.items():
        assert (spec.public is not None and spec.public.licence == "mit") == name.startswith("swin_")
        assert (spec.public is None) == (name == "twins_svt_nano" or name.startswith("halonet_h"))


def test_the_pages_examples_work(tmp_path, monkeypatch, capsys):
    """But the export, of which only the call is checked here: it takes half a minute."""
    exports, signature = [], inspect.signature(torch.onnx.export)
    monkeypatch.setattr(torch.onnx, "export", lambda *a, **k: exports.append(signature.bind(*a, **k).arguments))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    shapes = shapes_of(BACKBONES["twins_svt_small"], 1000, None)
    torch.save({name: torch.zeros(shape) for name, shape in shapes.items()}, "weights/alt_gvt_small.pth")
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, {})
    assert "tensors from weights/alt_gvt_small.pth" in capsys.readouterr().out
    (export,) = exports
    assert export["dynamo"] and export["args"][0].shape[0] > 1 and set(export["dynamic_shapes"][0]) == {0, 2, 3}
    (recipe,) = (yaml.safe_load(block)["model"] for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
    with torch.device("meta"):
        options = recipe.pop("decoder_options")
        network = build_model(recipe["backbone"], recipe["decoder"], 19, **options, pretrained=False,
                              backbone_options=recipe["backbone_options"])  # fmt: skip
    assert "blocks.0.1.attn.sr.1.weight" in network.backbone.state_dict()
    assert not hasattr(network.backbone.blocks[3][0].attn, "qkv")  # global, where SVT would be local


@pytest.mark.slow
def test_the_pages_export_takes_other_sizes_and_batches(tmp_path, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "onnx.export" in block)
    names = {}
    exec(block, names)
    image = torch.rand(1, 3, 97, 130) * 255
    with torch.inference_mode():
        expected = names["network"](image).numpy()
    session = onnxruntime.InferenceSession("network.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    assert abs(found - expected).max() <= 1e-4
