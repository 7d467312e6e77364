"""Starting a training from a model file, also one of other classes or of another decoder.

The backbone and its normalisation are taken whole. Of the same decoder every tensor is taken that fits; another
decoder's tensors mean something else, even under the same name, and it starts fresh. Class projections, which have an
entry for each class, are taken class by class:

- a class of the same name keeps its entries;
- a class that is a part (`refines`) of a class of the source starts with that class's entries: lane_solid with those of
  lane_marking;
- a class of which the source has one single part starts with that part's entries; of several, none is the right one;
- every other class starts fresh.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from roadseg.errors import ConfigError
from roadseg.inference.bundled import model_path
from roadseg.inference.package import ModelFile, read_model_file
from roadseg.inference.torch_engine import network_of
from roadseg.models.segmenter import Segmenter
from roadseg.models.zoo import build_model
from roadseg.taxonomy import Taxonomy


@dataclass(frozen=True)
class InitialisationReport:
    """What a network was started with.

    Attributes:
        source: the model file, as it was named.
        digest: SHA-256 of it, in hexadecimal.
        weights_licence: of it; what is trained on from it may inherit its terms.
        kept: classes that keep their entries.
        from_parent: class to the class of the source that it is a part of.
        from_part: class to its only part in the source.
        new: classes that start fresh.
        dropped: classes of the source whose entries are not used.
        unfit: tensors of the network that start fresh, since the source has none that fits.
        unused: tensors of the source without a place in the network.
    """

    source: str
    digest: str
    weights_licence: str
    kept: list[str]
    from_parent: dict[str, str]
    from_part: dict[str, str]
    new: list[str]
    dropped: list[str]
    unfit: list[str]
    unused: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts and strings."""
        return asdict(self)

    def __str__(self) -> str:
        """One line a list that is not empty."""
        related = {**self.from_parent, **self.from_part}
        lists = {
            "classes kept": self.kept,
            "classes started from a related one": [f"{name} from {other}" for name, other in related.items()],
            "classes that are new": self.new,
            "classes of the source that are dropped": self.dropped,
            "tensors that start fresh": self.unfit,
            "tensors of the source that are left out": self.unused,
        }
        lines = [f"  {title} ({len(names)}): {', '.join(names)}" for title, names in lists.items() if names]
        return "\n".join([f"started from {self.source} ({self.digest[:12]}, licence {self.weights_licence})", *lines])


def start_from(
    source: str, network: Segmenter, architecture: Mapping[str, Any], taxonomy: Taxonomy
) -> InitialisationReport:
    """Give a network the weights of a model file, in place.

    Args:
        source: a bundled model's name, or a model file.
        network: the network.
        architecture: what it was built from: backbone, decoder, num_classes, options and, if any, backbone_options.
        taxonomy: its classes.

    Raises:
        ModelFileError: when the file cannot be used.
        ConfigError: when it holds another backbone.
    """
    model, held = _read_source(source, network, architecture)
    wanted = network.state_dict()
    if model.header.architecture.decoder != architecture["decoder"]:
        held = {name: tensor for name, tensor in held.items() if not name.startswith("decoder.")}
    axes = class_axes(network, architecture)
    fitting = [name for name, tensor in wanted.items() if _fits(held.get(name), tensor, axes.get(name))]
    if any(name not in fitting for name in axes):  # entries of one projection are no good without the others'
        fitting = [name for name in fitting if name not in axes]
    theirs = model.header.taxonomy
    origins = _origins(theirs, taxonomy) if set(axes) <= set(fitting) else {}
    pairs = [(taxonomy.id_of(name), theirs.id_of(origin)) for name, origin in origins.items()]
    with torch.no_grad():
        for name in fitting:
            _take(wanted[name], held[name], axes.get(name), pairs)
    return _report(source, model, taxonomy, origins, fitting, wanted)


def check_source(source: str, network: Segmenter, architecture: Mapping[str, Any]) -> None:
    """Check that `start_from` could start a network; arguments and errors are its."""
    _read_source(source, network, architecture)


def check_one_start(pretrained: bool | str, init_from: str | None) -> None:
    """Check that the backbone's weights have one origin.

    Raises:
        ConfigError: when they have two.
    """
    if pretrained is not False and init_from is not None:
        raise ConfigError(
            f"model.pretrained is {pretrained} and model.init_from is {init_from}, but the backbone starts from one of "
            "them; set model.pretrained to false, or model.init_from to null"
        )


def class_axes(network: Segmenter, architecture: Mapping[str, Any]) -> dict[str, int]:
    """The tensors of a network with an entry for each class, and along which axis.

    They are those whose shape changes when the same network is built for another number of classes.
    """
    number = network.num_classes
    with torch.device("meta"):
        other = build_model(
            architecture["backbone"],
            architecture["decoder"],
            number + 1 if number < 255 else number - 1,
            backbone_options=architecture.get("backbone_options"),
            **architecture["options"],
        ).state_dict()
    return {
        name: next(
            axis for axis, sides in enumerate(zip(tensor.shape, other[name].shape, strict=True)) if len(set(sides)) > 1
        )
        for name, tensor in network.state_dict().items()
        if tensor.shape != other[name].shape
    }


def _origins(source: Taxonomy, target: Taxonomy) -> dict[str, str]:
    """Class of the target to the class of the source whose entries it starts with."""
    parts: dict[str, list[str]] = {}
    for c in source.classes:
        parts.setdefault(c.refines or "", []).append(c.name)
    origins = {}
    for c in target.classes:
        single = parts.get(c.name, [])
        if c.name in source.names:
            origins[c.name] = c.name
        elif c.refines in source.names:
            origins[c.name] = str(c.refines)
        elif len(single) == 1:
            origins[c.name] = single[0]
    return origins


def _fits(held: Tensor | None, wanted: Tensor, class_axis: int | None) -> bool:
    """Whether a tensor can be taken; class projections may differ in the number of classes."""
    if held is None or held.ndim != wanted.ndim:
        return False
    return all(a == b for axis, (a, b) in enumerate(zip(held.shape, wanted.shape, strict=True)) if axis != class_axis)


def _take(wanted: Tensor, held: Tensor, class_axis: int | None, pairs: list[tuple[int, int]]) -> None:
    """Copy a tensor; of a class projection the entries of pairs of ids, of the target's class and of the source's."""
    if class_axis is None:
        wanted.copy_(held)
        return
    for target_id, source_id in pairs:
        wanted.select(class_axis, target_id).copy_(held.select(class_axis, source_id))


def _read_source(
    source: str, network: Segmenter, architecture: Mapping[str, Any]
) -> tuple[ModelFile, dict[str, Tensor]]:
    """A model file with the network's backbone, and its weights."""
    model = read_model_file(model_path(source))
    held = network_of(model).state_dict()
    theirs, ours = model.header.architecture, architecture.get("backbone_options", {})
    shapes = [
        {k: t.shape for k, t in state.items() if k.startswith("backbone.")} for state in (held, network.state_dict())
    ]
    if theirs.backbone == architecture["backbone"] and shapes[0] == shapes[1]:
        return model, held
    raise ConfigError(
        f"model.init_from: {source} holds the backbone {theirs.backbone} with options {dict(theirs.backbone_options)}, "
        f"the configuration {architecture['backbone']} with options {ours}; set model.backbone and "
        "model.backbone_options to the file's, or give another file"
    )


def _report(
    source: str,
    model: ModelFile,
    taxonomy: Taxonomy,
    origins: Mapping[str, str],
    fitting: list[str],
    wanted: Mapping[str, Tensor],
) -> InitialisationReport:
    parents = {c.name: c.refines for c in taxonomy.classes}
    related = {name: origin for name, origin in origins.items() if name != origin}
    return InitialisationReport(
        source,
        model.digest,
        model.header.weights_licence,
        [name for name, origin in origins.items() if name == origin],
        {name: origin for name, origin in related.items() if parents[name] == origin},
        {name: origin for name, origin in related.items() if parents[name] != origin},
        [name for name in taxonomy.names if name not in origins],
        [name for name in model.header.taxonomy.names if name not in origins.values()],
        [name for name in wanted if name not in fitting],
        [name for name in model.tensors if name not in fitting],
    )
