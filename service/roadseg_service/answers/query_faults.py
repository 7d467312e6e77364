"""Everything that is wrong with a query string, told at once."""

from collections.abc import Awaitable, Callable, Iterable, Mapping

from fastapi import Request

from roadseg.taxonomy import Taxonomy
from roadseg_service.answers.parameters import FORMATS, BatchQuery, SegmentQuery, unknown_class
from roadseg_service.faults import Fault, faults_in, refusal
from roadseg_service.service import ServiceDep

_WHAT = "query parameter"
_DECIDE_FORMAT = ("format", "render", "geometry", "confidence")


def refuse_faults(model: type[SegmentQuery]) -> Callable[[Request, ServiceDep], Awaitable[None]]:
    """A dependency that refuses a query with all its faults.

    FastAPI would stop at values that are none, leave what is repeated to its last value, and know nothing of what does
    not go together.
    """

    async def refuse(request: Request, service: ServiceDep) -> None:
        active = service.model.active
        taxonomy = None if active is None else active.predictor.taxonomy
        if faults := query_faults(model, request.query_params.multi_items(), taxonomy):
            raise refusal(faults)

    return refuse


def query_faults(
    model: type[SegmentQuery], sent: Iterable[tuple[str, str]], taxonomy: Taxonomy | None = None
) -> list[Fault]:
    """All faults of a query string.

    Args:
        model: the parameters that are known.
        sent: names and values, in order.
        taxonomy: of the model that answers; without it the names of classes are not looked at.
    """
    values: dict[str, list[str]] = {}
    for name, value in sent:
        values.setdefault(name, []).append(value)
    repeated = [name for name in model.model_fields if len(values.get(name, [])) > 1]
    faults = [Fault(name, f"{_WHAT} '{name}' is given {len(values[name])} times; give it once") for name in repeated]
    last = {name: given[-1] for name, given in values.items()}
    faults += faults_in(model, {name: value for name, value in last.items() if name not in repeated}, _WHAT)
    wrong = {fault.parameter for fault in faults}
    faults += _without_effect(last, wrong)
    if "format" in last and "format" in model.model_fields and wrong.isdisjoint(_DECIDE_FORMAT):
        faults += _other_format(last)
    if taxonomy is not None and "classes" in last and "classes" not in wrong:
        faults += [fault] if (fault := unknown_class(last["classes"], taxonomy)) else []
    return faults


def _without_effect(sent: Mapping[str, str], wrong: set[str]) -> list[Fault]:
    """Parameters that would do nothing beside the others; what is wrong itself tells nothing of the others."""
    faults = []
    if "tolerance_px" in sent and "geometry" not in wrong and sent.get("geometry") != "polygons":
        faults.append(_about("tolerance_px", sent, "it has no effect without geometry=polygons; add it"))
    if "opacity" in sent and "render" not in wrong and sent.get("render") != "overlay":
        faults.append(_about("opacity", sent, "it has no effect without render=overlay; add it"))
    if "render" not in wrong and sent.get("render") == "overlay":
        why = "an overlay is a picture and holds none; ask for it in a request of its own, without render=overlay"
        asked = [("geometry", "geometry" in sent), ("confidence", sent.get("confidence") == "true")]
        faults += [_about(name, sent, why) for name, is_asked in asked if is_asked]
    return faults


def _other_format(sent: Mapping[str, str]) -> list[Fault]:
    """Of a batch: a format that its other parameters cannot be answered in."""
    offered = BatchQuery.model_validate({name: sent[name] for name in _DECIDE_FORMAT if name in sent}).offered()
    if FORMATS[sent["format"]] in offered:
        return []
    known = " or ".join(name for name, media_type in FORMATS.items() if media_type in offered)
    return [_about("format", sent, f"with the other parameters it can only be {known}; use that, or leave it out")]


def _about(name: str, sent: Mapping[str, str], why: str) -> Fault:
    return Fault(name, f"{_WHAT} {name} is '{sent[name]}': {why}")
