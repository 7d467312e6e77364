"""The ablation's table: which settings a row has, which runs count, and what a gain is compared with."""

import statistics

import pytest
import yaml

from benchmarks import ablation
from benchmarks.training_runs import ROOT
from tests.benchmarks.fake_runs import write_checkpoint

PLAN = {
    "config": "configs/bundled/roadseg-nano.yaml",
    "common": {"trainer": {"max_steps": 600}},
    "rows": [
        {"name": "base", "why": "what it is compared with", "changes": {"model": {"lr": 0.5}}},
        {"name": "no dice", "why": "w", "against": "base", "changes": {"model": {"loss": [{"name": "cross_entropy"}]}}},
        {"name": "and less decay", "why": "w", "against": "no dice", "changes": {"model": {"weight_decay": 0.0}}},
    ],
}


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(PLAN))
    return ablation.read_plan(path)


def finish(row, seed, runs, value, steps=600):
    _, run = ablation.run_of(row, seed, runs)
    write_checkpoint(run, 0, steps)
    header = ",".join(["step", *(f"val/{name}" for name in ablation.SCORES)])
    (run / "version_0" / "metrics.csv").write_text(header + "\n5" + f",{value}" * len(ablation.SCORES) + "\n")


def test_rows_build_on_the_row_that_they_are_compared_with(rows):
    shared = [(row.settings["model"]["lr"], row.settings["trainer"]["max_steps"]) for row in rows]
    assert shared == [(0.5, 600)] * 3
    assert [len(row.settings["model"]["loss"]) for row in rows] == [3, 1, 1]
    assert [row.settings["model"]["weight_decay"] for row in rows] == [0.01, 0.01, 0.0]
    assert rows[0].settings["data"]["hold_out"] == ["0006R0"]


def test_every_row_and_seed_is_a_run_of_its_own(rows, tmp_path):
    runs = {ablation.run_of(row, seed, tmp_path)[1] for row in rows for seed in (0, 1)}
    assert len(runs) == 6
    assert ablation.run_of(rows[0], 3, tmp_path)[0]["seed_everything"] == 3


def test_gains_are_of_shared_seeds_and_the_spread_is_pooled(rows, tmp_path):
    base, other = [0.30, 0.34, 0.50], [0.36, 0.37]
    for seed, value in enumerate(base):
        finish(rows[0], seed, tmp_path, value)
    for seed, value in enumerate(other):
        finish(rows[1], seed, tmp_path, value)
    finish(rows[2], 0, tmp_path, 0.9, steps=599)  # not finished: no score of it counts
    result = ablation.report(rows, tmp_path)
    assert [row["name"] for row in result["rows"]] == ["base", "no dice"]
    gain = result["rows"][1]["gain"]["miou"]
    assert gain == pytest.approx(((0.36 - 0.30) + (0.37 - 0.34)) / 2) and result["rows"][0]["gain"] == {}
    squares = sum((v - statistics.mean(base)) ** 2 for v in base) + sum(
        (v - statistics.mean(other)) ** 2 for v in other
    )
    assert result["spread_of_a_seed"]["miou"] == pytest.approx({"deviation": (squares / 3) ** 0.5, "freedom": 3})
    assert ablation.spread([[0.1], [0.2]]) is None
    deviation = (squares / 3) ** 0.5  # over two seeds a gain must exceed t times it: t s sqrt(2 / 2), t(3) = 3.182
    assert result["rows"][1]["counts"]["miou"] == (abs(gain) > 3.182 * deviation)
    assert not result["rows"][1]["counts"]["miou"]
    seeds = ablation.Spread(0.01, 6)  # tables give t(6) = 2.447: 0.0346 for one seed, 0.01998 for three
    assert ablation.counts(0.035, seeds, 1) is True and ablation.counts(0.034, seeds, 1) is False
    assert ablation.counts(-0.0201, seeds, 3) is True and ablation.counts(0.0199, seeds, 3) is False
    assert ablation.counts(0.5, None, 3) is None
    assert ablation.seeds_of(rows[0], tmp_path) == [0, 1, 2]


def test_a_plan_that_cannot_be_followed_is_refused(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump({**PLAN, "rows": PLAN["rows"][1:]}))
    with pytest.raises(SystemExit, match=r"row 'no dice' is there twice, or 'against' \(base\) is no row before it"):
        ablation.read_plan(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"name": "r", "why": "w", "against": "base", "change": {}},
            "row 'r' has 'change'; known: against, changes, n",
        ),
        ({"name": "r", "against": "base"}, "row 'r' has no 'why'"),
        ({"name": "r", "why": "w", "against": "base", "changes": {}}, "row 'r' changes nothing of row 'base'"),
    ],
)
def test_a_row_that_would_silently_change_nothing_is_refused(tmp_path, row, message):
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump({**PLAN, "rows": [PLAN["rows"][0], row]}))
    with pytest.raises(SystemExit, match=message):
        ablation.read_plan(path)


def test_an_unknown_row_is_named_with_those_there_are(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["ablation", "--rows", "no dise", "--runs", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"no row 'no dise' in .*ablation\.yaml; it has '"):
        ablation.main()


def test_the_plan_of_the_project_goes_from_the_paper_s_network_to_the_bundled_one_and_costs_the_same_all_along():
    rows = {row.name: row for row in ablation.read_plan(ablation.PLAN)}
    bundled = ablation.read_settings(ROOT / "configs" / "bundled" / "roadseg-nano.yaml")
    network = ("backbone", "backbone_options", "decoder", "decoder_options")
    last = rows["coarse start"].settings["model"]
    assert {key: last[key] for key in network} == {key: bundled["model"][key] for key in network}
    first = rows["paper"].settings["model"]
    assert "backbone_options" not in first and first["decoder_options"] == {"width": 128}
    for row in rows.values():
        trainer, coarse = row.settings["trainer"], row.settings["model"]["coarse_steps"]
        assert trainer["max_steps"] - coarse + coarse / 4 == 600
        assert trainer["val_check_interval"] == trainer["max_steps"]
        assert row.settings["data"]["batch_size"] == 4
