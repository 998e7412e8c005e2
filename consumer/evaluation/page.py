"""The report as one page that needs nothing else: no script, no font, no address is loaded."""

from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from consumer.evaluation.figures import Figures
from consumer.evaluation.plots import draw_plots
from consumer.evaluation.wording import (
    key_figures,
    show_count,
    show_figure,
    show_moment,
    show_money,
    show_name,
    show_rate,
    show_share,
    show_threshold,
)

_LIVE = (
    "Hits of each rule by what they turned out to be. Alone counts hits that no other rule hit; "
    "added counts those of them that no score's threshold would have flagged either, which is "
    "what taking the rule away would lose."
)
_SHADOW = (
    "Rules that were tried without deciding anything. Added counts what only this rule hit and "
    "the live decision approved, which is what making it live would change."
)


def render_page(figures: Figures) -> str:
    """The HTML of *figures*, the same for equal figures."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "count": show_count,
        "money": show_money,
        "share": show_share,
        "rate": show_rate,
        "threshold": show_threshold,
        "moment": show_moment,
        "figure": show_figure,
        "named": show_name,
    }
    text = (files(__package__) / "report.html.j2").read_text("utf-8")
    return environment.from_string(text).render(
        told=figures,
        tiles=key_figures(figures),
        plots=list(draw_plots(figures)),
        tables=(
            ("Rules", figures.rules, _LIVE),
            ("Shadow rules", figures.shadow_rules, _SHADOW),
        ),
    )
