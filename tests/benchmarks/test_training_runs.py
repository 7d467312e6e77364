"""Trainings of benchmarks: what is gone on with, what is not repeated, and what tells two runs apart."""

import pytest
import torch
import yaml

from benchmarks import training_runs
from tests.benchmarks.fake_runs import SETTINGS, write_checkpoint


def test_a_training_that_was_interrupted_goes_on(tmp_path, started):
    run = tmp_path / "run"
    write_checkpoint(run, 2, 100)
    last = write_checkpoint(run, 9, 200)
    (run / "version_10" / "checkpoints").mkdir(parents=True)  # was ended before its first checkpoint
    made = training_runs.fit(SETTINGS, run)
    assert started[0][-2:] == ["--ckpt_path", str(last)]
    assert made == run / "version_11" / "checkpoints" / "last.ckpt"
    config = started[0][started[0].index("-c") + 1]
    assert yaml.safe_load(open(config)) == SETTINGS


def test_a_finished_training_is_not_run_again(tmp_path, started):
    last = write_checkpoint(tmp_path / "run", 0, SETTINGS["trainer"]["max_steps"])
    assert training_runs.fit(SETTINGS, tmp_path / "run") == last and not started


def test_a_training_that_fails_ends_the_command_with_its_status(tmp_path, monkeypatch):
    monkeypatch.setattr(training_runs.subprocess, "run", lambda command, cwd: type("Done", (), {"returncode": 3}))
    with pytest.raises(SystemExit) as ended:
        training_runs.fit(SETTINGS, tmp_path / "run")
    assert ended.value.code == 3


def test_a_training_that_leaves_nothing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(training_runs.subprocess, "run", lambda command, cwd: type("Done", (), {"returncode": 0}))
    with pytest.raises(SystemExit, match="left no checkpoint under .*run"):
        training_runs.fit(SETTINGS, tmp_path / "run")


def test_settings_are_varied_in_depth_and_left_as_they_were():
    before = {"model": {"lr": 1, "loss": [{"name": "dice"}], "backbone_options": {"stem": "detail"}}, "data": {"b": 8}}
    after = training_runs.varied(before, {"model": {"lr": 2, "backbone_options": None}, "data": {"scale": [1, 2]}})
    assert after == {"model": {"lr": 2, "loss": [{"name": "dice"}]}, "data": {"b": 8, "scale": [1, 2]}}
    after["model"]["loss"].append({"name": "focal"})
    assert before["model"]["loss"] == [{"name": "dice"}] and before["model"]["backbone_options"] == {"stem": "detail"}


def test_data_that_a_configuration_names_are_part_of_its_digest(tmp_path):
    recipe, data = tmp_path / "recipe.yaml", tmp_path / "d.yaml"
    recipe.write_text("data: d.yaml\nseed_everything: 0\n")
    data.write_text("batch_size: 8\n")
    found = [training_runs.digest(training_runs.read_settings(recipe))]
    data.write_text("batch_size: 4\n")
    found.append(training_runs.digest(training_runs.read_settings(recipe)))
    data.write_text("# a remark\nbatch_size: 4\n")
    assert training_runs.digest(training_runs.read_settings(recipe)) == found[1] != found[0]


def test_the_last_validation_counts(tmp_path):
    checkpoint = write_checkpoint(tmp_path, 0, 4)
    rows = "step,train/loss,val/miou,val/iou/pole\n1,2.0,,\n1,,0.1,0.01\n3,1.0,,\n3,,0.3,0.02\n"
    (tmp_path / "version_0" / "metrics.csv").write_text(rows)
    assert training_runs.last_scores(checkpoint) == {"miou": 0.3, "iou/pole": 0.02}
    assert training_runs.steps_of(checkpoint) == torch.load(checkpoint, weights_only=True)["global_step"] == 4
