"""Twins under the linear decoder against DeepLabV3+: equal data, steps, augmentation and tuning, nothing pretrained.

`benchmarks/duel/plan.yaml` says what is equal and what is tuned; one command trains a model, one concludes:

    python -m benchmarks.duel.train twins
    python -m benchmarks.duel.train deeplabv3plus-mobilenet
    python -m benchmarks.duel.train deeplabv3plus-resnet50
    python -m benchmarks.duel.conclude -o benchmarks/duel/results.json
"""
