"""Figures in the documentation are those on record."""

import csv
import json
import statistics
from pathlib import Path

ROOT = Path(__file__).parents[1]


def record(name: str) -> dict[str, object]:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def test_speed_of_twins_is_the_one_on_record():
    text = (ROOT / "docs" / "models.md").read_text()
    for row in record("backbones")["rows"]:
        size = row["batch"].split("x")
        line = (
            f"| `{row['backbone']}`, {row['mode']}, {size[0]} x {size[2]}x{size[3]} | "
            f"{row['speedup']:.2f} times as fast | {row['roadseg_peak_mib']} MiB against {row['timm_peak_mib']} |"
        )
        assert line in text


def test_what_the_border_adds_is_what_was_measured():
    result = record("translation")
    errors = result["largest_relative_error_of_rolling"]
    assert max(errors["none"] + errors["peg, circular"]) < 1e-13 < 0.5 < min(errors["peg"])
    by_stride = list(result["mean_relative_difference_by_distance_in_tokens"].values())
    assert all(0.45 <= values[0] <= 0.58 for values in by_stride)
    assert all(0.15 <= values[1] <= 0.205 for values in by_stride[1:])
    assert all(1e-4 <= value <= 0.0052 for values in by_stride for value in values[2:])


def test_figures_of_road_data_are_those_on_record():
    text = (ROOT / "README.md").read_text()
    ratios = [row["ratio"] for row in record("loading")["rows"]]
    assert f"| {ratios[0]:.2f} times as many; {ratios[1]:.2f}, {ratios[2]:.2f} | `benchmarks.loading` |" in text
    steps = [case["ratio"] for case in record("label_sets")["cases"].values()]
    assert f"| {steps[0]:.2f} of its time; {steps[1]:.2f} | `benchmarks.label_sets` |" in text
    audit = record("audit")
    growth = f"{audit['memory_growth_mib']} MiB more than for 1,000"
    assert f"| {audit['seconds']:.1f} s, {growth} | `benchmarks.audit` |" in text
    mixture = record("mixture")["mean"]
    lanes = [mixture[name]["iou/lane_marking"] for name in ("mixture", "fine alone")]
    means = [mixture[name]["miou"] for name in ("mixture", "fine alone")]
    told = f"{lanes[0]:.3f} against {lanes[1]:.3f}; {means[0]:.3f} against {means[1]:.3f}"
    assert f"| {told} | `benchmarks.mixture` |" in text


def test_figures_of_the_bundled_model_are_those_on_record():
    result, text = record("roadseg_nano"), (ROOT / "README.md").read_text()
    scores, seen = result["held_out"]["scores"], result["usual_val_that_was_trained_on"]
    lanes, means = scores["iou"]["lane_marking"], (scores["miou"], scores["boundary_iou"])
    unseen = f"{scores['miou_merged']:.3f}; {lanes:.3f}; {means[0]:.3f}, {means[1]:.3f}"
    assert f"| {unseen} | `benchmarks.bundled_models` |" in text
    assert f"| {seen['roadseg eval']:.3f}, {seen['numpy']:.3f} | `benchmarks.bundled_models` |" in text
    card = (ROOT / "roadseg" / "weights" / "roadseg-nano.md").read_text()
    assert result["sha256"] in card and f"short side of {result['short_side_px']} px" in card
    for name, iou in scores["iou"].items():
        edges = scores["boundary_iou_per_class"][name], scores["boundary_f1_per_class"][name]["2px"]
        assert f"| {name} | {iou:.3f} | {edges[0]:.3f} | {edges[1]:.3f} |" in card


def test_the_latency_of_the_bundled_model_is_the_one_on_record():
    median = {(row["model"], row["engine"]): row["seconds"]["median_s"] for row in record("nano_latency")["rows"]}
    ratios = [
        f"{median['roadseg-nano', engine] / median['deeplabv3plus-mobilenet', engine]:.2f}"
        for engine in ("openvino", "onnx", "torch")
    ]
    assert f"| {'; '.join(ratios)} of its time | `roadseg bench` |" in (ROOT / "README.md").read_text()
    assert f"takes {ratios[0]} of the time" in (ROOT / "docs" / "experiment.md").read_text()


def test_figures_of_the_peer_are_those_on_record_and_said_to_be_of_frames_it_has_seen():
    result, text = record("deeplabv3plus_mobilenet"), (ROOT / "README.md").read_text()
    seen, scores = result["usual_val_that_was_trained_on"], result["drive_that_was_trained_on"]
    assert f"trained on | {seen['roadseg eval']:.3f}, {seen['numpy']:.3f} | `benchmarks.bundled_models` |" in text
    card = (ROOT / "roadseg" / "weights" / "deeplabv3plus-mobilenet.md").read_text()
    assert result["sha256"] in card and f"short side of {result['short_side_px']} px" in card
    assert result["held_out"] is None and "**Frames that it was trained on.**" in card
    for name, iou in scores["iou"].items():
        edges = scores["boundary_iou_per_class"][name], scores["boundary_f1_per_class"][name]["2px"]
        assert f"| {name} | {iou:.3f} | {edges[0]:.3f} | {edges[1]:.3f} |" in card


def test_figures_of_engines_are_those_on_record():
    f32, peer, bf16, int8 = (check["ratio"] for check in record("engines")["checks"])
    told = f"| {f32:.2f}, {bf16:.2f}; {peer:.2f}; {int8:.2f} times as fast | `benchmarks.engines` |"
    assert told in (ROOT / "README.md").read_text()


def test_figures_of_the_bundled_model_in_other_precisions_are_those_on_record():
    rows = {row["name"].rpartition(" ")[2]: row for row in record("engines")["rows"] if "nano, OpenVINO" in row["name"]}
    f32, bf16, int8 = (rows[name]["seconds"]["median_s"] for name in ("f32", "bf16", "int8"))
    told = (
        f"| {f32 / int8:.2f}, {f32 / bf16:.2f} times as fast; {rows['bf16']['agreement']:.2%} | `benchmarks.engines` |"
    )
    assert told.replace("%", " %") in (ROOT / "README.md").read_text()


def test_figures_of_int8_are_those_on_record():
    found = record("engines")["trained"]["int8"]
    assert found["int8"]["kept"] == [] and found["int8"]["layers"] == 79 and found["verification"]["frames"] == 33
    before, after = (found["verification"][name] for name in ("scores_of_model", "scores"))
    told = f"{before['miou']:.3f} before, {after['miou']:.3f} after"
    pairs = [(before["boundary_f1"]["2px"], after["boundary_f1"]["2px"])]
    pairs += [(before["thin_recall"][name], after["thin_recall"][name]) for name in before["thin_recall"]]
    told += "".join(f"; {old:.3f}, {new:.3f}" for old, new in pairs)
    assert list(before["thin_recall"]) == ["lane_marking", "pole", "traffic_sign"]
    assert f"| {told} | `roadseg export`, `benchmarks.engines --int8` |" in (ROOT / "README.md").read_text()


def test_figures_of_segmenting_are_those_on_record():
    text, found = (ROOT / "README.md").read_text(), record("segmenting")
    small, large = (row["ratio"] for row in found["folder"])
    assert f"| {small:.2f} of its throughput; {large:.2f} | `benchmarks.segmenting` |" in text
    nano, twins = (row["outside_share"] for row in found["frame"].values())
    assert f"| {twins:.1%}; {nano:.1%} | `benchmarks.segmenting` |".replace("%", " %") in text


def test_figures_of_memory_and_finishing_are_those_on_record():
    readme = (ROOT / "README.md").read_text()
    page = " ".join((ROOT / "docs" / "inference.md").read_text().split())
    found = record("windows")
    torch, openvino = (found["peak_mib_above_model"][name]["4320x7680"] for name in ("torch", "openvino"))
    assert f"| {torch} MiB; {openvino} MiB | `benchmarks.windows` |" in readme
    assert f"{torch} MiB above the model in torch and {openvino} MiB in OpenVINO" in page
    for group in ("at_model_scale", "at_own_size"):
        whole = found[group].pop("whole")["miou"]
        for name, row in found[group].items():
            told = f"{name} | {100 * (row['miou'] - whole):+.1f}"
            assert told in page and f"| {100 * row['agreement']:.1f} % |" in page
    rows = {(row["engine"], row["size"][0]): row for row in record("finishing")["rows"] if row["confidence"]}
    ratios = {key: row["seconds"]["masks"] / row["seconds"]["logits"] for key, row in rows.items()}
    torch, openvino = rows["torch", 1080]["mib"], rows["openvino", 1080]["mib"]
    told = f"{ratios['torch', 1080]:.2f} times as fast, {torch['logits']} against {torch['masks']} MiB"
    told += f"; {ratios['openvino', 1080]:.2f}, {openvino['logits']} against {openvino['masks']} MiB"
    assert f"| {told} | `benchmarks.finishing` |" in readme
    assert f"frame {ratios['torch', 2160]:.2f} and {ratios['openvino', 2160]:.2f} times" in page


def test_figures_of_the_slim_environment_are_those_on_record():
    found = record("slim_install")
    assert not found["busy"]
    onnx, openvino = (f"{row['size_mb']:.0f} MB, {row['first_mask_s']:.2f} s" for row in found["rows"])
    assert f"| {onnx}; {openvino} | `benchmarks.slim_install` |" in (ROOT / "README.md").read_text()


def test_figures_of_training_are_those_on_record():
    readme, text = ((ROOT / name).read_text() for name in ("README.md", "docs/throughput.md"))
    rows = record("training_step")["rows"]
    ratios = [rows[case]["lightning_to_plain_with_average"] for case in ("nano", "small")]
    assert f"| {ratios[0]:.2f} of its throughput; {ratios[1]:.2f} | `benchmarks.training_step` |" in readme
    assert f"has {ratios[0]:.2f} (`twins_svt_nano`) and {ratios[1]:.2f} (`twins_svt_small`)" in text
    for row in record("training_memory")["rows"]:
        told = f"{row['peak_mib']} | {row['step_s']:.2f} | {row['crops_per_s']:.2f}"
        checkpointing = "yes" if row["grad_checkpointing"] else "no"
        assert f"| {row['crop']} | {row['batch']} | {checkpointing} | {told} |" in text
    profile = record("profile_training")
    assert f"consumes {profile['step']['samples_per_s']:.0f} samples a second" in text
    assert f"processes deliver {profile['loader']['loader_samples_per_s']:.0f};" in text


def test_what_allocators_gain_is_what_was_measured():
    rows, text = record("allocators")["rows"]["nano"], (ROOT / "docs" / "throughput.md").read_text()
    assert f"`twins_svt_nano` {rows['jemalloc']['to_glibc']:.2f} times as fast (jemalloc)" in text
    assert f"makes it {rows['glibc, freed memory kept']['to_glibc']:.2f} times as fast" in text


def test_figures_of_the_service_are_those_on_record():
    readme = (ROOT / "README.md").read_text()
    ratios = record("service_throughput")["ratios"]
    told = f"{ratios['loop']:.2f}; {ratios['litserve']:.2f} of the throughput, {ratios['litserve_p99']:.2f} of the p99"
    assert f"| {told} | `benchmarks.service.throughput` |" in readme
    found = record("service_overload")
    overload, memory = found["overload"], found["resident_mib"]
    statuses = overload["statuses"]
    assert set(statuses) == {"200", "429"} and not overload["lost"] and "none" not in overload["retry_after"]
    told = (
        f"{statuses['200']} answered, p99 {overload['p99_s']:.2f} s; {statuses['429']} told when to come back; none "
        f"lost; {memory['highest_in_first_half']:.0f}, then {memory['highest_in_second_half']:.0f} MiB"
    )
    assert f"| {told} | `benchmarks.service.overload` |" in readme
    start = record("service_cold_start")
    told = f"{start['ready_s']:.2f} s, {start['ready_mib']:.0f} MiB; {start['after_a_frame_mib']:.0f} MiB"
    assert f"| {told} | `benchmarks.service.cold_start` |" in readme


_COLUMNS = ("miou_merged", "miou", "iou/lane_marking", "iou/pole", "iou/traffic_sign+traffic_light", "iou/barrier")


def test_figures_of_the_experiment_are_those_on_record():
    text = (ROOT / "docs" / "experiment.md").read_text()
    found = record("error_causes")
    assert f"whose mIoU is {found['miou']:.3f}" in text
    lines = [found["causes"][cause] for cause in ("all larger things", "thin", "edge")] + found["by_band_from_the_top"]
    for line in lines:
        assert f"| {line['gain']:+.3f} | {100 * line['share']:.1f} % |" in text
    scores = [record(name)["held_out"]["scores"] for name in ("roadseg_nano_v1", "roadseg_nano")]
    means = [f"{own[name]:.3f}" for own in scores for name in ("miou_merged", "miou")]
    assert "| {}; {} | {}; {} |".format(*means) in text
    legs = record("nano_schedule")
    for leg in ("first leg", "second leg"):
        for steps, values in legs[leg].items():
            assert f"{values['miou']:.3f}" in text.split("Training made")[1], steps
    for row in record("ablation")["rows"]:
        means = (
            f"{row['mean'][score]:.3f}" + (f" ({row['gain'][score]:+.3f})" if row["gain"] else "") for score in _COLUMNS
        )
        assert f"| {row['name']} | {len(row['by_seed'])} | {' | '.join(means)} |" in text
        assert row["name"] == "coarse start" or not row["counts"]["miou_merged"]
    for name, values in record("nano_continued")["rows"].items():
        assert f"| {name} | {' | '.join(f'{values[score]:.3f}' for score in _COLUMNS)} |" in text
    rows = [[[own["boundary_f1"][f"{px}px"] for px in (1, 2, 3)] for own in scores]]
    for name in ("lane_marking", "pole", "traffic_sign"):
        rows.append([[own["thin"][name][what] for what in ("recall", "precision", "cldice")] for own in scores])
    names = ("barrier", "pole", "traffic_sign+traffic_light", "lane_marking")
    rows.append([[own["iou"][name] for name in names] for own in scores])
    for row in rows:
        assert "| {} | {} |".format(*(", ".join(f"{value:.3f}" for value in side) for side in row)) in text


def test_the_duel_is_told_as_it_ended():
    text = (ROOT / "docs" / "duel.md").read_text().replace("**", "")
    found = json.loads((ROOT / "benchmarks" / "duel" / "results.json").read_text())
    for model, tuning in found["tuning"].items():
        assert f"| {model} | {' | '.join(f'{score:.3f}' for score in tuning['trials'].values())} |" in text
        assert not tuning["at_an_end"]
    for model, cost in found["costs"].items():
        low, high = (f"{1e3 * quartile:.0f}" for quartile in cost["quartiles_s"])
        line = f"| {model} | {cost['parameters'] / 1e6:.2f} M | {cost['gmacs']:.2f} | {1e3 * cost['median_s']:.0f} ms"
        assert f"{line} | {low} to {high} ms |" in text
    (pair,) = found["pairs"]
    assert pair["seeds"] == [0, 1, 2]
    for name, score in pair["scores"].items():
        values = (f"{statistics.mean(side):.3f} ({min(side):.3f} to {max(side):.3f})" for side in score["values"])
        low, high = (pick(interval[i] for interval in score["intervals"]) for i, pick in enumerate((min, max)))
        line = " | ".join(
            (name, *values, f"{statistics.mean(score['differences']):+.3f}", f"{low:+.3f} .. {high:+.3f}")
        )
        assert f"| {line} | {score['shown'] or '-'} |" in text
    times = [found["costs"][model]["median_s"] for model in pair["models"]]
    assert f"in {times[0] / times[1]:.2f} of the time" in text
    assert f"There are {len(pair['scores'])} scores" in text


def logged(pattern: str, score: str) -> dict[int, float]:
    """Values of a score in the duel's log of that name by step, the later one where a step was made twice."""
    (path,) = (ROOT / "benchmarks" / "duel" / "logs").glob(f"{pattern}.csv")
    with path.open() as file:
        return {int(row["step"]): float(row[score]) for row in csv.DictReader(file) if row.get(score)}


def test_what_the_duels_logs_say_is_told():
    text = " ".join((ROOT / "docs" / "duel.md").read_text().split())
    models = {"twins": "0.004", "deeplabv3plus-mobilenet": "0.016"}
    losses, trials = [], []
    for model, rate in models.items():
        ends = [
            value
            for seed in range(3)
            for step, value in logged(f"{model}-0001TP-*-seed{seed}-*", "train/loss/cross_entropy").items()
            if step >= 800
        ]
        losses.append(statistics.mean(ends))
        names = ("pole", "traffic_sign+traffic_light", "barrier", "lane_marking")
        trials.append([logged(f"{model}-0006R0-lr{rate}-*", f"val/iou/{name}")[299] for name in names])
    assert f"last 100 steps {losses[0]:.2f} against {losses[1]:.2f}" in text
    told = "pole ({} against {}), signs and lights ({}, {}), barrier ({}, {}) and lane marking ({}, {})"
    assert told.format(*(f"{value:.3f}" for pair in zip(*trials[::-1], strict=True) for value in pair)) in text
