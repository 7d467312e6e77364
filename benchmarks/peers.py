"""The peers of `benchmarks.engines`: timm's Twins under a plain decoder, and two of segmentation-models-pytorch."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import segmentation_models_pytorch as smp
import timm
import timm.layers
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.decoder import plain_form
from roadseg.inference.package import ModelFile
from roadseg.inference.torch_engine import network_of
from roadseg.models.segmenter import IMAGENET_MEAN, IMAGENET_STD

BACKBONE, DECODER, CLASSES = "twins_svt_small", "linear_concat", 19
"""Of our network."""

PLAIN, SEGFORMER, DEEPLAB = (
    "timm + plain decoder",
    "smp segformer on tu-twins_svt_small",
    "smp deeplabv3plus on resnet50",
)

Mask = np.ndarray
Run = Callable[[], Mask]


class PlainTwins(nn.Module):
    """Timm's Twins under the decoder in its plain form, with the weights of a model file of ours.

    Args:
        model: the model file.
        fused: whether timm's attention is torch's fused kernel.
    """

    def __init__(self, model: ModelFile, fused: bool = True) -> None:
        super().__init__()
        with timm_attention(fused):
            self.backbone = timm.create_model(BACKBONE, features_only=True, out_indices=(0, 1, 2, 3)).eval()
        weights = {name: torch.from_numpy(np.array(tensor)) for name, tensor in model.tensors.items()}
        own = self.backbone.state_dict()
        self.backbone.load_state_dict({key: weights[f"backbone.{key.removeprefix('model.')}"] for key in own})
        self.decoder = network_of(model).decoder

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, C, H, W) of normalised images (B, 3, H, W)."""
        logits = plain_form(self.decoder, self.backbone(image))
        return F.interpolate(logits, scale_factor=4.0, mode="bilinear")


@contextmanager
def timm_attention(fused: bool) -> Iterator[None]:
    """Within it, timm's networks are made with torch's fused attention, or with attention written out."""
    before = bool(timm.layers.use_fused_attn())
    timm.layers.set_fused_attn(fused)
    try:
        yield
    finally:
        timm.layers.set_fused_attn(before)


class ToMask(nn.Module):
    """A network between uint8 images (B, H, W, 3) and uint8 masks (B, H, W), as our engines are."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """The masks."""
        normalised = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        return self.network(normalised).argmax(1).to(torch.uint8)


def peers(model: ModelFile, fused: bool) -> dict[str, nn.Module]:
    """The peers' networks by name, in evaluation mode."""
    with timm_attention(fused):
        segformer = smp.create_model("segformer", "tu-twins_svt_small", encoder_weights=None, classes=CLASSES)
    return {
        PLAIN: ToMask(PlainTwins(model, fused)).eval(),
        SEGFORMER: ToMask(segformer).eval(),
        DEEPLAB: ToMask(smp.create_model("deeplabv3plus", "resnet50", encoder_weights=None, classes=CLASSES)).eval(),
    }


def in_torch(network: nn.Module, images: np.ndarray) -> Run:
    """A network, run by PyTorch."""

    @torch.inference_mode()
    def run() -> Mask:
        return network(torch.from_numpy(images)).numpy()

    return run


def in_openvino(network: nn.Module, images: np.ndarray) -> Run:
    """A network, converted by OpenVINO for images of this shape and run in float32."""
    import openvino

    from roadseg.inference.openvino_core import openvino_core

    with warnings.catch_warnings(action="ignore"):  # that sizes are fixed by tracing, which is meant
        converted = openvino.convert_model(network, example_input=torch.from_numpy(images), input=list(images.shape))
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = openvino_core().compile_model(converted, "CPU", settings).create_infer_request()

    def run() -> Mask:
        request.infer({0: images}, share_inputs=True)
        return request.get_output_tensor().data

    return run
