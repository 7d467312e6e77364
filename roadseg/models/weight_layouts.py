"""The names that public checkpoints give a backbone's weights, and what they are in timm's names.

A layout is recognised by the keys of a file alone. Beside timm's own names (which the Twins authors' repository shares)
there are the authors' segmentation checkpoints (the same names under `backbone.`), MMSegmentation's names, and this
project's checkpoints and model files.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, takewhile
from typing import Any

from torch import Tensor

from roadseg.errors import ModelError

TIMM, OFFICIAL, MMSEGMENTATION, ROADSEG = "timm", "official segmentation", "mmsegmentation", "roadseg"

# Entries of a checkpoint that hold averaged weights beside the plain ones, and all entries, the plain ones first.
_AVERAGES = ("model_ema", "state_dict_ema", "ema_state_dict")
_WRAPPERS = ("state_dict", "model", "module", *_AVERAGES)
_MAX_NESTING = 4  # a pickle can hold itself

# Wrappers of a whole network: of data-parallel training, of torch.compile, and of a task around its model.
_OUTER_PREFIXES = ("module.", "_orig_mod.", "model.")
_BACKBONE_PREFIXES = ("network.backbone.", "backbone.")

_AVERAGING = re.compile(rf"({'|'.join(_AVERAGES)})\.|ema_|(n_averaged|num_updates|decay)$")
_OTHER_PART = re.compile(r"(decode_head|auxiliary_head|neck|decoder)\.|(mean|std|class_weights)$")
_ROADSEG_PART = re.compile(r"decoder\.|(mean|std)$")

# Recomputed by the networks that have them; old files lack the first, and timm stores none of the others any more.
_BUFFERS = ("num_batches_tracked", "relative_position_index", "relative_coords_table", "attn_mask")

_MMSEGMENTATION_KEY = re.compile(
    r"patch_embeds\.\d+\.projection\.|position_encodings\.\d+\.proj\.|layers\.\d+\.\d+\.(ffn|attn\.attn)\."
)
_MMSEGMENTATION_RENAMES = (
    (re.compile(r"^(patch_embeds\.\d+)\.projection\."), r"\1.proj."),
    (re.compile(r"^position_encodings\.(\d+)\.proj\."), r"pos_block.\1.proj.0."),
    (re.compile(r"^layers\.(\d+\.\d+)\."), r"blocks.\1."),
    (re.compile(r"^(blocks\.\d+\.\d+)\.ffn\.layers\.0\.0\."), r"\1.mlp.fc1."),
    (re.compile(r"^(blocks\.\d+\.\d+)\.ffn\.layers\.1\."), r"\1.mlp.fc2."),
    (re.compile(r"^(blocks\.\d+\.\d+\.attn)\.attn\.out_proj\."), r"\1.proj."),
)
_PACKED = re.compile(r"^(blocks\.\d+\.\d+\.attn)\.attn\.in_proj_(weight|bias)$")

# (pattern, channels of the stages, blocks of the stages) -> name; tables 1 and 2 of arXiv 2104.13840, and ours.
_PCPVT_DIMS = (64, 128, 320, 512)
_TWINS: Mapping[tuple[str, tuple[int, ...], tuple[int, ...]], str] = {
    ("SVT", (32, 64, 160, 256), (2, 2, 6, 2)): "twins_svt_nano",
    ("SVT", (64, 128, 256, 512), (2, 2, 10, 4)): "twins_svt_small",
    ("SVT", (96, 192, 384, 768), (2, 2, 18, 2)): "twins_svt_base",
    ("SVT", (128, 256, 512, 1024), (2, 2, 18, 2)): "twins_svt_large",
    ("PCPVT", _PCPVT_DIMS, (3, 4, 6, 3)): "twins_pcpvt_small",
    ("PCPVT", _PCPVT_DIMS, (3, 4, 18, 3)): "twins_pcpvt_base",
    ("PCPVT", _PCPVT_DIMS, (3, 8, 27, 3)): "twins_pcpvt_large",
}


_PART = re.compile(r"((network|backbone|module|_orig_mod|model)\.)*[^.]*")
_SHOWN = 3  # names of a part that a report spells out


@dataclass(frozen=True)
class Arranged:
    """A backbone's tensors in timm's names.

    Attributes:
        layout: how the file named them.
        tensors: by timm's names.
        origin: the file's own key of each.
    """

    layout: str
    tensors: Mapping[str, Tensor]
    origin: Mapping[str, str]


@dataclass(frozen=True)
class LoadReport:
    """What became of the tensors of a file.

    Attributes:
        source: hub name or path.
        layout: whose names the file has: "timm", "official segmentation", "mmsegmentation" or "roadseg".
        loaded: keys of the network that got a tensor.
        ignored: keys of the file, in its own names, that have no place in the network.
        missing: keys of the network that keep their initial values.
    """

    source: str
    layout: str
    loaded: tuple[str, ...]
    ignored: tuple[str, ...]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        """One line, for example "178 tensors from X (timm's names); ignored: head.weight, head.bias"."""
        parts = [f"{len(self.loaded)} tensors from {self.source} ({self.layout}'s names)"]
        if self.ignored:
            parts.append(f"ignored: {', '.join(_by_part(self.ignored))}")
        if any("norm_list." in key for key in self.ignored):
            parts.append("norm_list normalises the features after each stage of that model; here they stay raw")
        if self.missing:
            parts.append(f"left at their initial values: {', '.join(_by_part(self.missing))}")
        return "; ".join(parts)


def _by_part(keys: Sequence[str]) -> Iterator[str]:
    """The keys; of a part with many, only how many they are."""
    parts: dict[str, list[str]] = {}
    for key in keys:
        parts.setdefault(_PART.match(key)[0], []).append(key)  # type: ignore[index]  # it matches every text
    for part, members in parts.items():
        if len(members) <= _SHOWN:
            yield from members
        else:
            yield f"{part}.* ({len(members)})"


def unwrap(content: Any, source: str) -> dict[str, Tensor]:
    """The tensors of what a file held, by name; wrappers are removed.

    Raises:
        ModelError: when there are none.
    """
    averages: dict[str, Tensor] = {}
    for _ in range(_MAX_NESTING):
        held = [name for name in _WRAPPERS if isinstance(content, Mapping) and isinstance(content.get(name), Mapping)]
        if not held:
            break
        for name in set(_AVERAGES).intersection(held[1:]):
            averages |= {f"{name}.{key}": tensor for key, tensor in _tensors(content[name]).items()}
        content = content[held[0]]
    tensors = _tensors(content)
    if not tensors:
        keys = f" under {', '.join(map(repr, list(content)[:5]))}" if isinstance(content, Mapping) and content else ""
        raise ModelError(f"{source} holds no tensors by name, but a {type(content).__name__}{keys}; give a state dict")
    return tensors | averages


def _tensors(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    named = ((key, value) for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor))
    return {key: tensor.detach() for key, tensor in named if not tensor.is_nested}  # those have no shape


def arrange(raw: Mapping[str, Tensor], known: Collection[str], source: str) -> Arranged:
    """Find the backbone in a file and give its tensors timm's names.

    Args:
        raw: the tensors of a file.
        known: keys of the network's state dict; prefixes that they have themselves are not taken off.
        source: the file, for messages.

    Raises:
        ModelError: when two tensors of the file have the same place.
    """
    keys = [key for key in raw if key in known or not _AVERAGING.match(key)]
    outer = _outer_prefix(keys, known)
    inner = _backbone_prefix([key.removeprefix(outer) for key in keys], known)
    prefix = outer + inner
    backbone = {key: key.removeprefix(prefix) for key in keys if key.startswith(prefix)}
    is_mmsegmentation = any(_MMSEGMENTATION_KEY.match(name) for name in backbone.values())
    tensors: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for key, name in backbone.items():
        for place, tensor in _from_mmsegmentation(name, raw[key]) if is_mmsegmentation else [(name, raw[key])]:
            if place in tensors:
                raise ModelError(
                    f"{source} holds two tensors for '{place}': '{origin[place]}' and '{key}'; use another file"
                )
            tensors[place], origin[place] = tensor, key
    beside = (key.removeprefix(outer) for key in keys if key not in backbone)
    return Arranged(MMSEGMENTATION if is_mmsegmentation else _layout(inner, beside), tensors, origin)


def _outer_prefix(keys: Sequence[str], known: Collection[str]) -> str:
    """What every key of the file begins with and no key of the network does."""
    prefix = ""
    steps = [step for step in _OUTER_PREFIXES if not any(name.startswith(step) for name in known)]
    while keys:
        step = next((step for step in steps if all(key.startswith(prefix + step) for key in keys)), None)
        if step is None:
            break
        prefix += step
    return prefix


def _backbone_prefix(keys: Iterable[str], known: Collection[str]) -> str:
    keys = list(keys)
    for prefix in _BACKBONE_PREFIXES:
        if any(key.startswith(prefix) for key in keys) and not any(name.startswith(prefix) for name in known):
            return prefix
    return ""


def _layout(inner: str, beside: Iterable[str]) -> str:
    if not inner:
        return TIMM
    if inner == _BACKBONE_PREFIXES[0] or any(_ROADSEG_PART.match(key) for key in beside):
        return ROADSEG
    return OFFICIAL


def _from_mmsegmentation(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """What one of MMSegmentation's tensors is in timm's names; its global attention packs query, key and value."""
    for pattern, replacement in _MMSEGMENTATION_RENAMES:
        name = pattern.sub(replacement, name)
    packed = _PACKED.match(name)
    if packed is None or not tensor.ndim:
        yield name, tensor
        return
    query_rows = len(tensor) // 3
    yield f"{packed[1]}.q.{packed[2]}", tensor[:query_rows]
    yield f"{packed[1]}.kv.{packed[2]}", tensor[query_rows:]


def is_buffer(name: str) -> bool:
    """Whether a key names something that networks compute for themselves, which a file may have or lack."""
    return name.rpartition(".")[2] in _BUFFERS


def belongs_elsewhere(name: str) -> bool:
    """Whether a key that a network lacks is of another part of a segmenter, or of no consequence for the network."""
    return bool(_OTHER_PART.match(name)) or name.startswith("norm_list.") or is_buffer(name)


def describe(shapes: Mapping[str, Sequence[int]]) -> str:
    """What network these shapes, by timm's names, are of: a known Twins, another Twins, or "" where it is neither."""
    stems = (shapes.get(f"patch_embeds.{stage}.proj.weight", ()) for stage in count())
    dims = tuple(shape[0] for shape in takewhile(lambda shape: len(shape) == 4, stems))
    depths = tuple(
        sum(1 for _ in takewhile(lambda key: key in shapes, (f"blocks.{k}.{i}.norm1.weight" for i in count())))
        for k in range(len(dims))
    )
    if not dims:
        return ""
    pattern = "SVT" if "blocks.0.0.attn.qkv.weight" in shapes else "PCPVT"
    name = _TWINS.get((pattern, dims, depths), f"a Twins-{pattern}")
    return f"{name} (embed dims {', '.join(map(str, dims))}; depths {', '.join(map(str, depths))})"
