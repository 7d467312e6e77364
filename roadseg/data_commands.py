"""`roadseg data ...`: look at data before training on it."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from roadseg.pseudo_labels.command import add_pseudo_label_command

if TYPE_CHECKING:
    from roadseg.audit.report import AuditReport
    from roadseg.data.mapped import MappedFrames
    from roadseg.data.views import TrainView

    Parts = dict[str, list[MappedFrames]]

Add = Callable[..., argparse.ArgumentParser]


def add_data_commands(add: Add) -> None:
    """Add the commands.

    Args:
        add: of name, summary, example and function, as in `roadseg.cli`.
    """
    _add_coverage(add)
    _add_audit(add)
    _add_split(add)
    _add_get(add)
    _add_shard(add)
    add_pseudo_label_command(add)


def _add_coverage(add: Add) -> None:
    parser = add(
        "coverage",
        "print which classes each dataset of a configuration teaches; fail when one is taught by none",
        "roadseg data coverage -c configs/camvid_mixture.yaml",
        _coverage,
    )
    _add_config(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_audit(add: Add) -> None:
    parser = add(
        "audit",
        "find what ruins trainings: broken, mismatched and mislabelled files, leaks between splits, missing classes",
        "roadseg data audit -c configs/camvid_mixture.yaml --json audit.json --pictures audit",
        _audit,
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("-c", "--config", metavar="FILE", help="training configuration, or its data section")
    where.add_argument("path", nargs="?", metavar="PATH", help="folder with images and masks, without a configuration")
    parser.add_argument(
        "--waive", action="append", default=[], metavar="CHECK[:PATTERN]", help="accept a finding; repeatable"
    )
    parser.add_argument("--json", metavar="FILE", help="write the whole report")
    parser.add_argument(
        "--pictures", metavar="DIR", help="write a contact sheet as the network sees it, and class frequencies"
    )
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes (default: one a core)")


def _add_split(add: Add) -> None:
    parser = add(
        "split",
        "share whole drives out to training and validation, and write them to a file for data.split_file",
        "roadseg data split -c configs/camvid_mixture.yaml --val 0.2 -o split.yaml",
        _split,
    )
    _add_config(parser)
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="split file to write")
    parser.add_argument(
        "--val", type=float, default=0.2, metavar="SHARE", help="part of the frames to validate on (default: 0.2)"
    )
    parser.add_argument("--test", type=float, default=0.0, metavar="SHARE", help="part kept for a test (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice among equally good ones (default: 0)")


def _add_get(add: Add) -> None:
    parser = add(
        "get",
        "fetch a dataset, or say how to get it by hand",
        "roadseg data get camvid",
        _get,
    )
    parser.add_argument(
        "dataset", metavar="NAME", help="camvid is fetched with git; for the others the way is explained"
    )
    parser.add_argument("--root", metavar="DIR", help="data root (default: $ROADSEG_DATA if set, else ./data)")


def _add_shard(add: Add) -> None:
    parser = add(
        "shard",
        "pack a dataset into tar shards, for streaming",
        "roadseg data shard -c configs/camvid_mixture.yaml -o shards",
        _shard,
    )
    _add_config(parser)
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder; one below it for each dataset")
    parser.add_argument("--frames", type=int, default=500, metavar="N", help="frames a shard (default: 500)")


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-c", "--config", required=True, metavar="FILE", help="training configuration, or its data section"
    )


def _coverage(args: argparse.Namespace) -> int:
    from roadseg.data.config import read_data_config
    from roadseg.data.coverage import coverage, teachers
    from roadseg.data.mixture import tables_of

    data = read_data_config(args.config)
    taught = [config for config in data.configs if "train" in config.splits]
    tables = tables_of(taught, data.root, data.taxonomy)
    names = [c.options.get("name") or (Path(c.folder).name if c.folder else c.dataset) for c in taught]
    found = coverage(list(zip(names, tables, strict=True)), data.taxonomy)
    print(json.dumps(found.to_dict(), indent=2) if args.json else found.to_text())
    if found.untaught:
        print(
            f"error: no dataset labels {', '.join(found.untaught)} of taxonomy '{data.taxonomy.name}' by itself: add a "
            "dataset that does, or choose a taxonomy without it",
            file=sys.stderr,
        )
        for name in found.untaught:
            print(f"  {name} is labelled by: {', '.join(teachers(name, data.taxonomy)) or 'none'}", file=sys.stderr)
    return 1 if found.untaught else 0


def _audit(args: argparse.Namespace) -> int:
    from roadseg.audit import audit_tree
    from roadseg.audit.pictures import write_pictures
    from roadseg.errors import ConfigError

    workers = args.workers or None
    if args.path:
        if args.pictures:
            raise ConfigError(
                "--pictures shows frames as the network sees them, which only a configuration says; use -c FILE"
            )
        report = audit_tree(args.path, waive=args.waive, workers=workers)
    else:
        report, splits, view = _audit_config(args.config, args.waive, workers)
        if args.pictures:
            write_pictures(report, splits, view, args.pictures)
    if args.json:
        report.write_json(args.json)
    print(report.text())
    return report.exit_code


def _audit_config(path: str, waive: list[str], workers: int | None) -> "tuple[AuditReport, Parts, TrainView | None]":
    """The audit of a configuration's data, what was audited, and the training frames as the network sees them, if any.

    Datasets that cannot be opened are findings, and the others are looked at all the same.
    """
    from roadseg.audit import audit
    from roadseg.data.config import read_data_config
    from roadseg.data.mapped import MixedFrames
    from roadseg.data.mixture import label_sets_of, open_sources, share_out
    from roadseg.data.views import TrainView
    from roadseg.errors import DataError

    data = read_data_config(path)
    opened, problems = [], []
    for config in data.configs:
        try:
            opened.append((open_sources([config], data.root, data.taxonomy)[0], config))
        except DataError as error:
            problems.append((config.dataset, error))
    sources, configs = [source for source, _ in opened], [config for _, config in opened]
    label_sets = label_sets_of([source.classes for source in sources], data.taxonomy)
    splits = share_out(sources, configs, label_sets, data.drives if sources else None).splits
    used = {split: [part for part in parts if len(part)] for split, parts in splits.items()}
    report = audit(used, waive=[*data.waive, *waive], workers=workers, problems=problems)
    return report, used, TrainView(MixedFrames(used["train"]), data.augmentation, data.seed) if used["train"] else None


def _shard(args: argparse.Namespace) -> int:
    from roadseg.data.config import read_data_config
    from roadseg.data.mixture import open_sources
    from roadseg.data.shards import write_shards
    from roadseg.errors import ConfigError

    data = read_data_config(args.config)
    sources = open_sources(data.configs, data.root, data.taxonomy)
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise ConfigError(f"datasets {', '.join(names)}: two have one name, and would share a folder; pack them apart")
    for source in sources:
        folder = Path(args.output) / source.name
        write_shards(source, folder, args.frames)
        print(f"wrote {len(source.frames)} frames of {source.name} to {folder}")
    return 0


def _split(args: argparse.Namespace) -> int:
    from roadseg.data.config import read_data_config
    from roadseg.data.mixture import open_sources
    from roadseg.data.splitting import DriveSplit, split_by_drive, write_split

    data = read_data_config(args.config)
    sources = open_sources(data.configs, data.root, data.taxonomy)
    tables = [(source.collection, source.frames.where(lambda frame: frame.split != "test")) for source in sources]
    drives = split_by_drive(tables, args.val, args.seed, args.test)
    names = ", ".join(config.dataset for config in data.configs)
    write_split(Path(args.output), DriveSplit(tuple(drives["val"]), tuple(drives["test"]), args.seed, names))
    for split, held in drives.items():
        print(f"{split}: {', '.join(held) or 'nothing'}")
    print(f"wrote {args.output}; use it by data.split_file: {args.output}")
    return 0


def _get(args: argparse.Namespace) -> int:
    from roadseg.data.download import explain, get_camvid
    from roadseg.data.registry import dataset_spec
    from roadseg.data.root import data_root

    dataset_spec(args.dataset)
    if args.dataset != "camvid":
        print(explain(args.dataset))
        return 0
    print(f"CamVid is in {get_camvid(data_root(args.root))}")
    return 0
