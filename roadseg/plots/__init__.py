"""Figures of masks, scores and attention, for notebooks. The names load on first use; drawing needs matplotlib."""

from typing import TYPE_CHECKING

from roadseg.lazy import lazy_names

__all__ = [
    "ScoreIntervals",
    "draw_attention",
    "draw_class_scores",
    "draw_comparison",
    "draw_fields",
    "draw_history",
    "draw_intervals",
    "draw_pictures",
    "draw_result",
    "draw_windows",
    "label_map",
    "legend_of",
]

if TYPE_CHECKING:
    from roadseg.evaluation.drawing import label_map
    from roadseg.plots.attention import draw_attention, draw_fields, draw_windows
    from roadseg.plots.comparison import draw_comparison
    from roadseg.plots.pictures import draw_pictures, draw_result, legend_of
    from roadseg.plots.scores import ScoreIntervals, draw_class_scores, draw_history, draw_intervals

__getattr__ = lazy_names(
    "roadseg.plots",
    {
        "ScoreIntervals": "roadseg.plots.scores",
        "draw_attention": "roadseg.plots.attention",
        "draw_class_scores": "roadseg.plots.scores",
        "draw_comparison": "roadseg.plots.comparison",
        "draw_fields": "roadseg.plots.attention",
        "draw_history": "roadseg.plots.scores",
        "draw_intervals": "roadseg.plots.scores",
        "draw_pictures": "roadseg.plots.pictures",
        "draw_result": "roadseg.plots.pictures",
        "draw_windows": "roadseg.plots.attention",
        "label_map": "roadseg.evaluation.drawing",
        "legend_of": "roadseg.plots.pictures",
    },
)
