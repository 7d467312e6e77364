"""The duel: what is equal, how a learning rate is chosen, what is trained, and what a result may be called."""

import json
import math
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from benchmarks import training_runs
from benchmarks.duel import conclude, plan
from benchmarks.duel.logs import keep_logs
from benchmarks.duel.train import train
from benchmarks.training_runs import fit, newest
from roadseg.evaluation.compare import Score
from tests.benchmarks.fake_runs import write_checkpoint


def give_score(settings, model, runs, value):
    """Give a finished training its last validation."""
    last = newest(plan.folder_of(settings, model, runs))
    (last.parents[1] / "metrics.csv").write_text(f"step,val/miou,val/{plan.CHOSEN_BY}\n9,0.1,{value}\n")


@pytest.fixture
def duel():
    return plan.read_duel()


def test_all_but_the_network_and_the_rate_is_equal(duel):
    rest = []
    for model in duel.models:
        settings = duel.run(model, 1e-3, 0)
        for key in ("backbone", "backbone_options", "decoder", "decoder_options"):
            settings["model"].pop(key, None)
        assert "pretrained" not in settings["model"] and "init_from" not in settings["model"]
        rest.append(settings)
    assert all(other == rest[0] for other in rest)
    assert {"deeplabv3plus-resnet50", "deeplabv3plus-mobilenet", "twins"} <= set(duel.models)


def test_learning_rates_are_chosen_on_another_drive_than_is_reported(duel):
    assert not set(duel.tuning["hold_out"]) & set(duel.final["hold_out"])
    trial = duel.trial("twins", 0.002)
    assert trial["data"]["hold_out"] == duel.tuning["hold_out"] and trial["model"]["lr"] == 0.002
    assert trial["trainer"]["max_steps"] == trial["trainer"]["val_check_interval"] == duel.tuning["steps"]
    assert 0 < trial["model"]["coarse_steps"] == duel.tuning["coarse_steps"] < duel.tuning["steps"]


def test_one_command_tunes_and_then_trains_every_seed_with_the_best_rate(duel, started, tmp_path, monkeypatch):
    values = dict(zip(duel.tuning["lr"], (0.2, 0.4, 0.3, 0.1, 0.0, 0.0), strict=True))
    run = training_runs.subprocess.run

    def scored(command, cwd):
        done = run(command, cwd)
        settings = yaml.safe_load(Path(command[command.index("-c") + 1]).read_text())
        give_score(settings, "twins", tmp_path, values[settings["model"]["lr"]])
        return done

    monkeypatch.setattr(training_runs.subprocess, "run", scored)
    train("twins", runs=tmp_path)
    seen = [yaml.safe_load(Path(c[c.index("-c") + 1]).read_text()) for c in started]
    finals = seen[len(values) :]
    assert [s["model"]["lr"] for s in seen[: len(values)]] == duel.tuning["lr"]
    assert [s["seed_everything"] for s in finals] == duel.final["seeds"]
    assert {s["model"]["lr"] for s in finals} == {duel.tuning["lr"][1]}
    train("twins", runs=tmp_path)
    assert len(started) == len(seen), "nothing is trained twice"


def test_a_rate_at_which_a_trial_diverges_is_not_chosen_and_not_tried_again(duel, started, tmp_path, monkeypatch):
    run, steps = training_runs.subprocess.run, []

    def diverging(command, cwd):
        settings = yaml.safe_load(Path(command[command.index("-c") + 1]).read_text())
        steps.append(settings["model"]["lr"])
        if settings["model"]["lr"] == duel.tuning["lr"][-1]:
            return SimpleNamespace(returncode=3)
        done = run(command, cwd)
        give_score(settings, "twins", tmp_path, settings["model"]["lr"])
        return done

    monkeypatch.setattr(training_runs.subprocess, "run", diverging)
    train("twins", runs=tmp_path, seeds=1)
    assert steps == [*duel.tuning["lr"], duel.tuning["lr"][-2]]
    assert math.isnan(plan.trials(duel, "twins", tmp_path)[duel.tuning["lr"][-1]])
    train("twins", runs=tmp_path, seeds=1)
    assert len(steps) == len(duel.tuning["lr"]) + 1


def test_a_trial_that_fails_otherwise_ends_the_search(duel, tmp_path, monkeypatch):
    monkeypatch.setattr(training_runs.subprocess, "run", lambda command, cwd: SimpleNamespace(returncode=1))
    with pytest.raises(SystemExit) as ended:
        train("twins", runs=tmp_path)
    assert ended.value.code == 1 and not list(tmp_path.glob("*.diverged"))


def test_no_rate_is_chosen_before_every_trial_is_done():
    assert plan.best_lr({1e-3: 0.4, 2e-3: None}) is None
    assert plan.best_lr({1e-3: 0.4, 2e-3: 0.41, 5e-4: 0.1}) == 2e-3
    assert plan.best_lr({1e-3: float("nan"), 2e-3: 0.01}) == 2e-3
    assert plan.best_lr({1e-3: float("nan"), 2e-3: float("nan")}) is None


def test_an_unknown_model_is_named(tmp_path):
    with pytest.raises(SystemExit, match="--seeds is 0; use 1 to 3, the seeds of .*plan.yaml"):
        train("twins", runs=tmp_path, seeds=0)
    with pytest.raises(SystemExit, match="no model 'twin' in .*plan.yaml; it has twins, twins-paper, deeplab"):
        train("twin", runs=tmp_path)


@pytest.mark.parametrize(
    ("intervals", "shown"),
    [
        ([(0.01, 0.03), (0.02, 0.05)], "ahead"),
        ([(-0.05, -0.01), (-0.02, -0.001)], "behind"),
        ([(0.01, 0.03), (-0.001, 0.05)], None),
        ([(-0.03, -0.01), (0.01, 0.03)], None),
        ([(0.01, 0.03)], None),  # of one seed only
        ([], None),
    ],
)
def test_a_difference_is_shown_where_every_seed_shows_it(intervals, shown):
    summary = conclude.summarise([a_score(0.30, 0.32, ends) for ends in intervals], max(2, len(intervals)))
    assert summary["shown"] == shown
    assert summary["differences"] == pytest.approx([0.02] * len(intervals))
    assert summary["values"] == [[0.32] * len(intervals), [0.30] * len(intervals)]


def a_score(a, b, ends=(-0.1, 0.1)):
    return Score(a, b, (0.0, 1.0), (0.0, 1.0), ends)


def test_every_class_that_the_labels_tell_is_compared():
    both = a_score(0.2, 0.3)
    names = [
        "miou",
        "miou_merged",
        "iou/pole",
        "iou/wall",
        "iou/wall+building",
        "boundary_f1/2px",
        "boundary_f1_per_class/pole/1px",
        "boundary_f1_per_class/pole/2px",
        "row_iou/iou/pole/0",
    ]
    first = SimpleNamespace(scores={name: both for name in names} | {"iou/wall": a_score(math.nan, math.nan)})
    other = SimpleNamespace(scores=first.scores | {"boundary_f1/2px": a_score(0.2, 0.2, (math.nan, math.nan))})
    edges = "boundary_f1_per_class/pole/2px"
    assert conclude.told([first]) == ["miou_merged", "iou/pole", "iou/wall+building", "boundary_f1/2px", edges]
    assert conclude.told([first, other]) == ["miou_merged", "iou/pole", "iou/wall+building", edges]


def test_settings_and_metrics_of_trainings_are_kept(duel, started, tmp_path):
    runs, kept = tmp_path / "runs", tmp_path / "kept"
    first, interrupted, diverged, unfinished, *_ = (duel.trial("twins", lr) for lr in duel.tuning["lr"])
    for settings in (first, interrupted):
        fit(settings, plan.folder_of(settings, "twins", runs))
        give_score(settings, "twins", runs, settings["model"]["lr"])
    before = plan.folder_of(interrupted, "twins", runs) / "version_2"
    before.mkdir()
    (before / "metrics.csv").write_text("step,train/loss\n4,2.5\n")
    name = plan.folder_of(diverged, "twins", runs)
    (name / "version_0").mkdir(parents=True)
    (name / "version_0" / "metrics.csv").write_text("step,train/loss\n0,9.5\n")
    name.with_name(f"{name.name}.yaml").write_text(yaml.safe_dump(diverged))
    plan.divergence_mark(name).touch()
    write_checkpoint(plan.folder_of(unfinished, "twins", runs), 0, duel.tuning["steps"] - 1)

    copies = keep_logs(duel, runs, kept)
    assert sorted(copies) == sorted(kept.iterdir()) and len(copies) == 2 * 3
    for settings, metrics in (
        (first, f"step,val/miou,val/miou_merged\n9,0.1,{first['model']['lr']}\n"),
        (interrupted, f"step,train/loss,val/miou,val/miou_merged\n4,2.5,,\n9,,0.1,{interrupted['model']['lr']}\n"),
        (diverged, "step,train/loss\n0,9.5\n"),
    ):
        name = plan.folder_of(settings, "twins", kept).name
        assert yaml.safe_load((kept / f"{name}.yaml").read_text()) == settings
        assert (kept / f"{name}.csv").read_text() == metrics


def test_a_model_that_diverges_at_every_rate_is_named(duel, tmp_path, monkeypatch):
    monkeypatch.setattr(training_runs.subprocess, "run", lambda command, cwd: SimpleNamespace(returncode=3))
    with pytest.raises(SystemExit, match=r"twins diverged at every learning rate \(0.001, .*try lower"):
        train("twins", runs=tmp_path)
    assert plan.final_runs(duel, "twins", tmp_path) == {}


def test_without_finished_trainings_the_command_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["conclude", "--runs", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"no pair is finished under .*there: none.*python -m benchmarks.duel.train"):
        conclude.main()


@pytest.mark.parametrize("before", ["off", None])
def test_the_cache_of_a_conclusion_is_not_left_to_what_comes_after(before, monkeypatch):
    monkeypatch.setenv("ROADSEG_CACHE", "off")
    if before is None:
        monkeypatch.delenv("ROADSEG_CACHE")
    with pytest.raises(SystemExit), conclude.own_cache() as folder:
        assert os.environ["ROADSEG_CACHE"] == str(folder) and folder.is_dir()
        sys.exit("as where nothing is finished")
    assert os.environ.get("ROADSEG_CACHE") == before and not folder.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read .*plan.yaml: .*No such file"),
        ("a: [", "cannot read .*plan.yaml"),
        ("- a", "no mapping .*list"),
    ],
)
def test_a_plan_that_is_none_is_named(text, message, tmp_path):
    path = tmp_path / "plan.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SystemExit, match=message):
        plan.read_duel(path)


def test_a_misspelt_key_is_named(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(plan.PLAN.read_text().replace("  steps: 300", "  step: 300"))
    with pytest.raises(SystemExit, match="tuning has 'step'; known: coarse_steps, hold_out, lr, seed, steps"):
        plan.read_duel(path)


def test_a_pair_of_a_model_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(plan.PLAN.read_text().replace("[twins, twins-paper]", "[twins, twin-paper]"))
    with pytest.raises(SystemExit, match="pairs has 'twin-paper'; models has twins, twins-paper, deeplab"):
        plan.read_duel(path)


def test_a_rate_at_an_end_of_the_plan_is_told(duel, started, tmp_path, monkeypatch, capsys):
    run = training_runs.subprocess.run

    def rising(command, cwd):
        done = run(command, cwd)
        settings = yaml.safe_load(Path(command[command.index("-c") + 1]).read_text())
        give_score(settings, "twins", tmp_path, settings["model"]["lr"])
        return done

    monkeypatch.setattr(training_runs.subprocess, "run", rising)
    train("twins", runs=tmp_path, seeds=1)
    assert "0.032, at the end of what was tried" in capsys.readouterr().out
    told = conclude.tuning_of(duel, "twins", tmp_path)
    assert told["chosen"] == 0.032 and told["at_an_end"] and told["trials"]["0.001"] == 0.001
    give_score(duel.trial("twins", 0.004), "twins", tmp_path, 0.9)
    plan.divergence_mark(plan.folder_of(duel.trial("twins", 0.032), "twins", tmp_path)).touch()
    told = conclude.tuning_of(duel, "twins", tmp_path)
    assert told["chosen"] == 0.004 and not told["at_an_end"] and told["trials"]["0.032"] is None


def test_the_data_of_a_run_can_be_scored(tmp_path, duel):
    path = conclude._data_file(duel, tmp_path)
    assert yaml.safe_load(path.read_text()) == json.loads(path.read_text())
    assert json.loads(path.read_text())["data"]["hold_out"] == duel.final["hold_out"]
