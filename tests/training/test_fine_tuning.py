"""Starting from a model file: same classes, other classes, other decoders, and through the command line."""

import json
import warnings
from pathlib import Path

import pytest
import torch

from roadseg.data.datamodule import RoadDataModule
from roadseg.errors import ConfigError, ModelFileError
from roadseg.fine_tuning import class_axes, start_from
from roadseg.inference.package import Architecture, ModelHeader, read_model_file, write_model_file
from roadseg.inference.torch_engine import network_of
from roadseg.models.segmenter import IMAGENET_STD
from roadseg.models.zoo import build_model
from roadseg.seen_validation import warn_of_seen_validation
from roadseg.task import SegmentationTask
from roadseg.taxonomy import RoadClass, Taxonomy, load_taxonomy
from tests.data.mixtures import write_both
from tests.training.tiny_run import checkpoint

MEAN = (100.0, 101.0, 102.0)


def taxonomy(*names: str, **refines: str) -> Taxonomy:
    classes = [RoadClass(name, (i, 0, 1)) for i, name in enumerate(names)]
    classes += [RoadClass(name, (i, 1, 1), refines=whole) for i, (name, whole) in enumerate(refines.items())]
    return Taxonomy("test", 1, tuple(classes))


SOURCE = taxonomy("road", "lane_marking", "sky", "pole")
TARGET = taxonomy("tree", "pole", "road", lane_solid="lane_marking", lane_dashed="lane_marking", awning="building")
"""Other names in another order, two parts of a class of the source, and a part of a class that it does not have."""


def architecture(classes: Taxonomy, decoder="linear_concat", backbone="twins_svt_nano", **options) -> dict:
    return {"backbone": backbone, "decoder": decoder, "num_classes": len(classes), "options": options or {"width": 16}}


def network(classes: Taxonomy, seed: int, **settings):
    built = architecture(classes, **settings)
    torch.manual_seed(seed)
    made = build_model(built["backbone"], built["decoder"], len(classes), **built["options"])
    for _, buffer in made.decoder.named_buffers():  # trained batch norms have statistics of their own
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    return made.eval(), built


def write(path: Path, classes: Taxonomy = SOURCE, **settings) -> Path:
    made, built = network(classes, 1, **settings)
    made.mean.copy_(torch.tensor(MEAN).view(1, 3, 1, 1))
    header = ModelHeader(Architecture(**built), classes, MEAN, IMAGENET_STD, weights_licence="research")
    write_model_file(path, header, {name: tensor.numpy() for name, tensor in made.state_dict().items()})
    return path


def logits(made, classes: Taxonomy) -> dict[str, torch.Tensor]:
    """By class name, in float64."""
    image = torch.rand(1, 3, 64, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        return dict(zip(classes.names, made.double()(image)[0], strict=True))


def close(got: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)  # kernels round by the number of classes


@pytest.mark.parametrize(
    ("decoder", "backbone"),
    [("linear_concat", "twins_svt_nano"), ("fpn", "resnet18"), ("upernet", "resnet18"), ("deeplabv3plus", "resnet18")],
)
def test_shared_classes_have_the_logits_of_the_source(tmp_path, decoder, backbone):
    settings = {"decoder": decoder, "backbone": backbone, "width": 32}
    path = write(tmp_path / "m.safetensors", **settings)
    target, built = network(TARGET, 2, **settings)
    report = start_from(str(path), target, built, TARGET)
    wanted, got = logits(network_of_file(path), SOURCE), logits(target, TARGET)
    for name in ("pole", "road"):
        close(got[name], wanted[name])
    for name in ("lane_solid", "lane_dashed"):
        close(got[name], wanted["lane_marking"])
    assert not any(torch.allclose(got["tree"], other) for other in wanted.values())
    assert report.kept == ["pole", "road"] and report.new == ["tree", "awning"] and report.dropped == ["sky"]
    assert report.from_parent == {"lane_solid": "lane_marking", "lane_dashed": "lane_marking"}
    assert (report.from_part, report.unfit, report.unused) == ({}, [], [])


def network_of_file(path: Path):
    return network_of(read_model_file(path))


@pytest.mark.parametrize(
    ("decoder", "backbone", "axes"),
    [
        ("linear_concat", "twins_svt_nano", {"decoder.head.weight": 0, "decoder.head.bias": 0}),
        ("fpn", "resnet18", {"decoder.head.0.weight": 0, "decoder.head.0.bias": 0}),
    ],
)
@pytest.mark.parametrize("number", [1, 32, 255])  # 32 is the width, too, which is no number of classes
def test_class_projections_are_found_by_what_depends_on_the_number_of_classes(decoder, backbone, axes, number):
    built = {"backbone": backbone, "decoder": decoder, "num_classes": number, "options": {"width": 32}}
    with torch.device("meta"):
        made = build_model(backbone, decoder, number, width=32)
    assert class_axes(made, built) == axes


def test_a_single_part_stands_for_its_whole_and_several_do_not(tmp_path):
    source = taxonomy("road", lane_solid="lane_marking", car="vehicle", truck="vehicle")
    target = taxonomy("vehicle", "lane_marking", "road")
    path = write(tmp_path / "m.safetensors", source)
    made, built = network(target, 2)
    report = start_from(str(path), made, built, target)
    assert report.from_part == {"lane_marking": "lane_solid"} and report.new == ["vehicle"]
    assert report.dropped == ["car", "truck"]
    close(logits(made, target)["lane_marking"], logits(network_of_file(path), source)["lane_solid"])


def test_another_decoder_starts_fresh_on_the_same_backbone(tmp_path):
    path = write(tmp_path / "m.safetensors")
    made, built = network(SOURCE, 2, decoder="fpn")
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    report, held = start_from(str(path), made, built, SOURCE), network_of_file(path).state_dict()
    for name, tensor in made.state_dict().items():
        assert torch.equal(tensor, before[name] if name.startswith("decoder.") else held[name]), name
    assert report.kept == [] and report.new == SOURCE.names == report.dropped
    assert report.unfit == [name for name in before if name.startswith("decoder.")]
    assert made.mean.flatten().tolist() == list(MEAN), "the normalisation belongs to the backbone"


def test_of_a_wider_decoder_what_fits_is_taken_and_the_classes_are_new(tmp_path):
    path = write(tmp_path / "m.safetensors", width=16)
    made, built = network(SOURCE, 2, width=24)
    bias = made.decoder.head.bias.clone()
    report = start_from(str(path), made, built, SOURCE)
    assert torch.equal(made.decoder.head.bias, bias), "a bias without its weights would mean nothing"
    assert report.kept == [] and {"decoder.head.weight", "decoder.head.bias", "decoder.fuse.weight"} <= set(
        report.unfit
    )


def test_another_backbone_is_refused(tmp_path):
    path = write(tmp_path / "m.safetensors")
    made, built = network(SOURCE, 2, backbone="resnet18")
    with pytest.raises(ConfigError, match=r"holds the backbone twins_svt_nano .* the configuration resnet18"):
        start_from(str(path), made, built, SOURCE)
    built = {**architecture(SOURCE), "backbone_options": {"subsampling": "avgpool"}}
    made = build_model("twins_svt_nano", "linear_concat", 4, backbone_options=built["backbone_options"], width=16)
    with pytest.raises(ConfigError, match=r"with options {'subsampling': 'avgpool'}"):
        start_from(str(path), made, built, SOURCE)


def test_a_missing_file_is_named():
    made, built = network(SOURCE, 2)
    with pytest.raises(ModelFileError, match=r"no model file at gone.safetensors"):
        start_from("gone.safetensors", made, built, SOURCE)


CAMVID = load_taxonomy("camvid11")


@pytest.fixture
def source(tmp_path) -> Path:
    """A model of eleven classes in another order, of which one is not CamVid's."""
    names = [*reversed(CAMVID.names[1:]), "water"]
    return write(tmp_path / "source.safetensors", taxonomy(*names))


def test_a_run_starts_from_a_file_and_says_so_and_a_resumed_one_does_not_read_it(run, source, monkeypatch, caplog):
    started = {}

    def remember(task) -> None:
        started.update({k: v.clone() for k, v in task.network.state_dict().items()})

    monkeypatch.setattr(SegmentationTask, "on_train_start", remember)
    start = ["--model.init_from", source, "--trainer.limit_train_batches", 1, "--trainer.max_epochs"]
    caplog.set_level("INFO")
    assert run("fit", *start, 1) == 0
    held = network_of_file(source).state_dict()
    assert torch.equal(started["backbone.blocks.3.1.mlp.fc2.weight"], held["backbone.blocks.3.1.mlp.fc2.weight"])
    road = started["decoder.head.weight"][CAMVID.id_of("road")]
    assert torch.equal(road, held["decoder.head.weight"][10 - CAMVID.id_of("road")])
    assert "classes that are new (1): sky" in caplog.text and "dropped (1): water" in caplog.text
    header = torch.load(checkpoint(), weights_only=True)["roadseg"]
    assert header["initialisation"]["new"] == ["sky"] and header["initialisation"]["weights_licence"] == "research"
    assert header["recipe"]["init_from"] == str(source)

    saved = torch.load(checkpoint(), weights_only=True)["current_model_state"]
    source.unlink()
    assert run("fit", *start, 2, "--ckpt_path", checkpoint()) == 0
    assert all(torch.equal(started[name], saved[f"network.{name}"]) for name in started)
    resumed = torch.load(checkpoint(version=1), weights_only=True)
    assert resumed["roadseg"]["initialisation"] == header["initialisation"] and resumed["epoch"] == 1


@pytest.mark.parametrize("held_out", [None, ["B"]])
def test_validation_frames_that_the_model_was_trained_on_are_told(tmp_path, held_out):
    """Of drives A, B and C; the model's run held out A and validated on it, this one held out B, or validates on A."""
    write_both(tmp_path)
    datasets = [{"dataset": "camvid"}]
    settings = {"root": str(tmp_path), "datasets": datasets, "taxonomy": "camvid11"}
    earlier = RoadDataModule(**settings, hold_out=["A"])
    earlier.open()
    record = {"data": json.loads(json.dumps(earlier.describe()))}
    header = ModelHeader(Architecture(**architecture(CAMVID)), CAMVID, MEAN, IMAGENET_STD, provenance=record)
    data = RoadDataModule(**settings, hold_out=held_out or ["A"])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warn_of_seen_validation("model.init_from", "m.safetensors", header, data)
        warn_of_seen_validation("model.init_from", "m.safetensors", header, None)
    texts = [str(warning.message) for warning in told]
    number = len(data.frames("val"))
    wanted = f"model.init_from: m.safetensors was trained on {number} of this run's {number} validation frames"
    assert len(texts) == (held_out is not None) and all(wanted in text for text in texts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.init_from", "gone.safetensors"], "no model file at gone.safetensors"),
        (["--model.init_from", "roadseg-nanno"], "no bundled model 'roadseg-nanno'"),
        (["--model.init_from", "m.safetensors", "--model.backbone", "resnet18"], "holds the backbone twins_svt_nano"),
        (["--model.init_from", "m.safetensors", "--model.pretrained", "x.pth"], "the backbone starts from one of them"),
    ],
)
def test_what_cannot_be_started_from_stops_the_run_before_its_data_is_read(
    run, capsys, monkeypatch, arguments, message
):
    monkeypatch.setattr(RoadDataModule, "setup", lambda *arguments: pytest.fail("the data was read"))
    if "--model.backbone" in arguments:
        write(Path("m.safetensors"))
    assert run("fit", *arguments) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and not list(Path().glob("runs/**/*.ckpt"))
