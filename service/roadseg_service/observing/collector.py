"""Metrics that are read when they are asked for: the queue, memory, the model."""

import sys
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from roadseg_service.models.slot import ServedModel
from roadseg_service.observing.log_writing import lost_lines
from roadseg_service.service import Service
from roadseg_service.text import encodable

SHORT = ("places", "time", "memory")
"""What `Admission` refuses requests for the lack of."""


class ServiceCollector(Collector):
    """Reads a service's state.

    Args:
        service: what to read.
    """

    def __init__(self, service: Service) -> None:
        """Keep the service."""
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """The state now."""
        yield from self._load()
        yield from self._models()
        active = self._service.model.active
        if active is not None:
            yield from _device_memory(active.predictor.engine.device)

    def _load(self) -> Iterator[Metric]:
        service = self._service
        admission = service.pipeline.admission
        values = {
            "roadseg_queue_depth": ("Images that wait for the network.", service.pipeline.batcher.waiting),
            "roadseg_places_taken": ("Whole uploads that wait or are worked on.", admission.accepted),
            "roadseg_places": ("Bound of roadseg_places_taken.", admission.max_requests),
            "roadseg_held_bytes": ("Memory of uploads and decoded images.", admission.held_bytes),
            "roadseg_held_bytes_limit": ("Bound of roadseg_held_bytes.", admission.max_bytes),
            "roadseg_batch_age_seconds": (
                "Time for which the oldest running batch has run.",
                service.pipeline.watch.age_s,
            ),
            "roadseg_device_failing": ("1 while /readyz says so.", service.pipeline.watch.trouble is not None),
            "roadseg_connections": ("Connections that are open.", service.connections.open),
            "roadseg_connections_limit": ("Bound of roadseg_connections.", service.connections.most),
            "roadseg_draining": ("1 once the server was told to stop.", service.lifecycle.draining),
            "roadseg_ready": (
                "1 while /readyz answers 200.",
                service.model.active is not None
                and not service.lifecycle.draining
                and service.pipeline.watch.trouble is None,
            ),
            "roadseg_keys_file_ok": (
                "0 while the file of API keys is wrong, and those that were read before count; else 1.",
                _keys_ok(service),
            ),
            "roadseg_model_loading": ("1 while a model is being loaded.", service.loader.loading is not None),
        }
        for name, (text, value) in values.items():
            yield GaugeMetricFamily(name, text, float(value))
        refused = CounterMetricFamily(
            "roadseg_queue_full", "Requests that were told to come back, by what was short.", labels=("short",)
        )
        for short in SHORT:
            refused.add_metric((short,), float(admission.refused[short]))
        yield refused
        yield from self._losses()

    def _losses(self) -> Iterator[Metric]:
        connections = self._service.connections
        closed = CounterMetricFamily(
            "roadseg_connections_closed",
            "Connections closed for want of places: idle ones (evicted), and new ones where none was idle (refused).",
            labels=("reason",),
        )
        closed.add_metric(("evicted",), float(connections.evicted))
        closed.add_metric(("refused",), float(connections.refused))
        yield closed
        yield CounterMetricFamily("roadseg_log_lines_lost", "Lines of the log that nobody read in time.", lost_lines())

    def _models(self) -> Iterator[Metric]:
        labels = ("role", "name", "digest", "engine", "device", "precision", "taxonomy")
        family = GaugeMetricFamily("roadseg_model_info", "1; the model is in the labels.", labels=labels)
        slot = self._service.model
        for role, model in (("active", slot.active), ("previous", slot.previous)):
            if model is not None:
                family.add_metric((role, *_described(model)), 1.0)
        yield family


def _keys_ok(service: Service) -> bool:
    if service.key_file is None:
        return True
    service.key_file.keys()  # looks at the file, which else waits for a request with a key
    return service.key_file.ok


def _described(model: ServedModel) -> tuple[str, ...]:
    predictor = model.predictor
    engine, taxonomy = predictor.engine, predictor.taxonomy
    texts = (model.name, predictor.digest, engine.name, engine.device, engine.precision)
    return *(encodable(text) for text in texts), encodable(f"{taxonomy.name}/{taxonomy.version}")


def _device_memory(device: str) -> Iterator[Metric]:
    """The device's memory as torch tells it; torch is not loaded for that."""
    torch = sys.modules.get("torch")
    if torch is None or not device.startswith("cuda"):
        return
    free, total = torch.cuda.mem_get_info(device)
    family = GaugeMetricFamily(
        "roadseg_device_memory_bytes",
        "Memory of the device: total; used by all processes; reserved and allocated by this process' torch.",
        labels=("device", "kind"),
    )
    kinds = {
        "total": total,
        "used": total - free,
        "reserved": torch.cuda.memory_reserved(device),
        "allocated": torch.cuda.memory_allocated(device),
    }
    for kind, count in kinds.items():
        family.add_metric((device, kind), float(count))
    yield family
