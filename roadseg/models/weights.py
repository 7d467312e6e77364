"""Pretrained weights: found on the Hugging Face hub or on disk, and matched to a network's parameters.

Nothing in a file is executed, and a network gets either everything that it needs or nothing.
"""

import os
import pickle
import re
import zipfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from roadseg.errors import ModelError
from roadseg.models.weight_layouts import Arranged, LoadReport, arrange, belongs_elsewhere, describe, is_buffer, unwrap

_TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")
_SUFFIXES = (".safetensors", *_TORCH_SUFFIXES)
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")

_SHOWN = 3  # names of a kind that a message spells out


def read_weights(source: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the tensors of a file, or of a repository on the Hugging Face hub.

    Args:
        source: a .safetensors, .pth, .pt, .bin or .ckpt file (a name with such an ending, with more than one path
            separator, absolute, or beginning with "." or "~" is one); else a name in timm, such as
            "twins_svt_small.in1k", or a repository "org/name", either with "@revision" or without.

    Returns:
        Tensors by the file's own names, on the CPU. Wrappers such as {"state_dict": ...} are removed; averaged weights
        beside plain ones are there under their entry's name ("model_ema.norm.weight"). They may be mapped from the
        file: copy them, as `load_state_dict` does, before it changes.

    Raises:
        ModelError: when the name is unknown, the hub cannot be reached, or the file is missing, of another kind,
            damaged, needs code to be run, or holds no tensors.
    """
    path = _local_path(source)
    if path is None:
        path = _fetch(str(source))
    return unwrap(_read_file(path), str(path))


def match_weights(
    raw: Mapping[str, Tensor],
    shapes: Mapping[str, Sequence[int] | torch.Size],
    *,
    source: str,
    optional: Sequence[str] = (),
) -> tuple[dict[str, Tensor], LoadReport]:
    """Give a file's tensors to a network: all that it needs, or nothing.

    Args:
        raw: the tensors of a file, by its own names.
        shapes: keys and shapes of the network's state dict, in timm's names.
        source: the file, for messages and the report.
        optional: prefixes of keys, such as "head.", that the file may lack or hold in other shapes, or that the network
            may lack. What is under one of them is loaded whole, or left as it is.

    Returns:
        The tensors by the network's keys, floats as float32, and the report. Keys of the network that are not among
        them keep their initial values.

    Raises:
        ModelError: when a tensor that is not optional is missing, has another shape, is not of finite floats, or has
            no place in the network.
    """
    arranged = arrange(raw, shapes, source)
    wanted = {name: tuple(shape) for name, shape in shapes.items()}
    left = _left_as_they_are(arranged.tensors, wanted, tuple(optional))
    weights, faults = _sort_out(arranged, {name: shape for name, shape in wanted.items() if name not in left})
    strays = [
        key
        for name, key in arranged.origin.items()
        if name not in wanted and not belongs_elsewhere(name) and not name.startswith(tuple(optional))
    ]
    if strays:
        faults["without a place in the network"] = strays
    if faults:
        raise ModelError(_misfit(source, faults, arranged, wanted))
    used = {arranged.origin[name] for name in weights}
    ignored = tuple(key for key in raw if key not in used)
    return weights, LoadReport(source, arranged.layout, tuple(weights), ignored, tuple(n for n in wanted if n in left))


def _left_as_they_are(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]], optional: Sequence[str]
) -> set[str]:
    """The keys of the network that need no tensor and get none: half a classifier would be worse than a new one."""
    left = {name for name in wanted if is_buffer(name) and name not in tensors}
    for prefix in optional:
        part = {name for name in wanted if name.startswith(prefix)}
        if any(name not in tensors or tuple(tensors[name].shape) != wanted[name] for name in part - left):
            left |= part
    return left


def _sort_out(
    arranged: Arranged, needed: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """The tensors that can be taken, floats as float32, and what is wrong with the others, by the kind of fault."""
    weights: dict[str, Tensor] = {}
    faults: dict[str, list[str]] = {}
    for name, shape in needed.items():
        tensor = arranged.tensors.get(name)
        if tensor is None:
            faults.setdefault("missing", []).append(name)
        elif tuple(tensor.shape) != shape:
            sizes = f"{name} {tuple(tensor.shape)} in the file, {shape} in the network"
            faults.setdefault("of another shape", []).append(sizes)
        elif not _is_dense(tensor) or not (tensor.is_floating_point() or is_buffer(name)):
            faults.setdefault("not of plain floating-point numbers", []).append(f"{name} {tensor.dtype}")
        else:
            weights[name] = tensor.float() if tensor.is_floating_point() else tensor
            if not torch.isfinite(weights[name]).all():  # after the conversion, which may overflow
                faults.setdefault("with NaN or infinite values", []).append(name)
    return weights, faults


def _is_dense(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_quantized


def _misfit(
    source: str, faults: Mapping[str, Sequence[str]], arranged: Arranged, wanted: Mapping[str, tuple[int, ...]]
) -> str:
    problems = (
        f"{len(names)} {kind}: {', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}"
        for kind, names in faults.items()
    )
    file, network = describe({name: t.shape for name, t in arranged.tensors.items()}), describe(wanted)
    first = ", ".join(list(arranged.origin.values())[:_SHOWN])
    return (
        f"the weights of {source} do not fit the network, and nothing was loaded. Of its {len(wanted)} tensors and the "
        f"file's {len(arranged.origin)}: {'; '.join(problems)}. The file has {arranged.layout}'s names and looks like "
        f"{file or f'no Twins ({first}, ...)'}{f'; the network is {network}' if network else ''}. Give the weights of "
        "this network, or set pretrained to false"
    )


def _local_path(source: str | os.PathLike[str]) -> Path | None:
    """The path that a source is, or None where it is a name on the hub."""
    text = os.fspath(source)
    separators = len(re.findall(r"[/\\]", text.partition("@")[0]))
    is_path = separators > 1 or "\\" in text or text.startswith((".", "~", "/")) or text.lower().endswith(_SUFFIXES)
    if isinstance(source, str) and (not is_path or "://" in text):
        return None
    return Path(os.path.expanduser(text))


def _fetch(name: str) -> Path:
    """Download a repository's weights, or find them in the hub's cache."""
    if not _HUB_NAME.fullmatch(name):
        raise ModelError(
            f"'{name}' is neither a name on the Hugging Face hub (such as 'timm/twins_svt_small.in1k') nor a path of a "
            f"file that ends in {', '.join(_SUFFIXES)}"
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import EntryNotFoundError, LocalEntryNotFoundError

    name, _, revision = name.partition("@")
    repository = name if "/" in name else _timm_repository(name)
    unreachable: Exception | None = None
    for file in _HUB_FILES:
        try:
            # Once the hub could not be reached, only the cache is asked: each further try would wait for it again.
            return Path(
                hf_hub_download(repository, file, revision=revision or None, local_files_only=unreachable is not None)
            )
        except LocalEntryNotFoundError as error:  # a subclass of EntryNotFoundError
            unreachable = error
        except EntryNotFoundError:
            continue
        except Exception as error:  # the hub's client raises many kinds, none of them promised
            raise _hub_error(repository, error) from error
    if unreachable is not None:
        raise _hub_error(repository, unreachable) from unreachable
    raise ModelError(
        f"the repository '{repository}' on the Hugging Face hub has neither {' nor '.join(_HUB_FILES)}; give another "
        "one, or download the file that it has and give its path"
    )


def _timm_repository(name: str) -> str:
    """The repository of one of timm's models; a name without a tag is its default weights."""
    import timm

    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # a tag that the model does not have
        config = None
    if config is not None and config.hf_hub_id:
        return str(config.hf_hub_id)
    close = get_close_matches(name, timm.list_models(pretrained=True), n=3)
    raise ModelError(
        f"timm knows no weights '{name}'{'; close to it: ' + ', '.join(close) if close else ''}. Give a name of timm, "
        f"a repository 'org/name' on the Hugging Face hub, or a path of a file that ends in {', '.join(_SUFFIXES)}"
    )


def _hub_error(repository: str, error: Exception) -> ModelError:
    from huggingface_hub import constants
    from huggingface_hub.utils import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):  # a subclass of RepositoryNotFoundError
        fix = f"ask for access at https://huggingface.co/{repository} and log in with `hf auth login`"
    elif isinstance(error, RepositoryNotFoundError):
        fix = "check its name; if it is private, log in with `hf auth login`"
    elif isinstance(error, RevisionNotFoundError):
        fix = "check what stands behind the '@'"
    elif constants.HF_HUB_OFFLINE:
        fix = f"HF_HUB_OFFLINE is set: unset it once, so that they are cached in {constants.HF_HUB_CACHE}"
    else:
        fix = f"go online once, so that they are cached in {constants.HF_HUB_CACHE}"
    return ModelError(
        f"the weights '{repository}' could not be fetched from the Hugging Face hub ({_reason(error)}); {fix}; or "
        f"download {_HUB_FILES[0]} elsewhere and give its path; or set pretrained to false"
    )


def _read_file(path: Path) -> Any:
    try:
        _check_file(path)
        if path.suffix.lower() == ".safetensors":
            return safetensors.torch.load_file(path)
        # Optimizer states beside the weights are mapped, not read; the old format cannot be mapped. Training scripts
        # put their arguments in: a Namespace only holds values.
        with torch.serialization.safe_globals([Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except ModelError:
        raise
    except Exception as error:  # torch raises many kinds on a damaged file
        refused = re.search(r"GLOBAL ([\w.]+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if refused:
            raise ModelError(
                f"{path} was not loaded: it wants to run code ('{refused[1]}'), as only a file from someone you trust "
                "may. Where it was made, save its tensors alone: torch.save(model.state_dict(), FILE)"
            ) from error
        raise ModelError(
            f"{path} is not a readable {path.suffix} file ({_reason(error)}); it may be cut off or another kind of "
            "file: fetch it again"
        ) from error


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise ModelError(f"{path} is a folder; give the file of weights in it")
    if not path.exists():
        raise ModelError(f"no file of weights at {path}; check the path")
    if not path.is_file():
        raise ModelError(f"{path} is not a regular file; give a file of weights")
    if path.suffix.lower() not in _SUFFIXES:
        raise ModelError(f"{path} ends in '{path.suffix}'; files of weights end in {', '.join(_SUFFIXES)}")
    if not path.stat().st_size:
        raise ModelError(f"{path} is empty; fetch it again")


def _reason(error: Exception) -> str:
    """One line: the kind of an error, and what it says."""
    inner = re.search(r"WeightsUnpickler error: *(.+)", str(error))  # it is at the end of a long advice
    line = inner[1] if inner else next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {line[:200]}" if line else type(error).__name__
