"""The drawer of surgery: shock or shield a parameter group, or take attention's choice away."""

from typing import TYPE_CHECKING, Any

import ipywidgets

from course_lib.lab.view.controls import Quiet, hint, row
from course_lib.models import parameter_groups
from course_lib.runs import GroupSettings
from course_lib.studies.surgery import GROUP_LABELS, TAU

if TYPE_CHECKING:
    from course_lib.lab.lab import Lab

SHOCKS = {f"shock ×{factor}": float(factor) for factor in (1, 3, 10)}
"""Name → learning rate multiplier of a group that has no warmup."""
REST, SHIELD = "as the rest", "shield"


class Surgery:
    """A row of choices for each parameter group, and one for attention.

    Args:
        lab: what is operated on.
    """

    title = "Surgery"
    tooltip = "Shock or shield a single group of parameters, and see where the crash lives"

    def __init__(self, lab: "Lab") -> None:
        self.lab = lab
        self._quiet = Quiet()
        self.groups: dict[str, ipywidgets.ToggleButtons] = {}
        for group in parameter_groups(lab.run.model):
            options = [REST, *SHOCKS, *([] if group == "norm" else [SHIELD])]
            buttons = _choice(GROUP_LABELS[group], options, REST)
            buttons.observe(self._chosen(group), "value")
            self.groups[group] = buttons
        self.attention = _choice("attention", _kinds(lab.controls.attention), lab.controls.attention)
        self.attention.observe(self._attention_chosen, "value")
        self.widget = ipywidgets.VBox(
            [
                hint(
                    "Shock: no warmup, and so many times the learning rate (give the rest a warmup above). "
                    "Shield: its steps are bounded by τ, as AdamW² bounds them. Groups change at the next "
                    "step, attention with the next run or fork."
                ),
                *(_named(GROUP_LABELS[group], buttons) for group, buttons in self.groups.items()),
                _named("attention", self.attention),
            ]
        )

    def reset(self) -> None:
        self.draw()

    def draw(self) -> None:
        with self._quiet:
            for group, buttons in self.groups.items():
                buttons.value = _choice_of(self.lab.controls.groups.get(group, {}))
            self.attention.options = _kinds(self.lab.controls.attention, *self.attention.options)
            self.attention.value = self.lab.controls.attention

    def _chosen(self, group: str) -> Any:
        def chosen(change: Any) -> None:
            if not self._quiet and change["new"] is not None:
                self.lab.guarded(lambda: self.operate(group, change["new"]))(None)

        return chosen

    def operate(self, group: str, choice: str) -> None:
        """Do what a button says.

        Args:
            group: of parameters.
            choice: one of the buttons' texts.
        """
        lab = self.lab
        own: GroupSettings = {}
        if choice in SHOCKS:
            own = {"warmup": 0, "lr_multiplier": SHOCKS[choice]}
        elif choice == SHIELD:
            own = {"tau": lab.tau or TAU}
        lab.message = ""
        if choice == SHIELD and lab.controls.optimizer.value == "adamw":
            # AdamW has no bound: AdamW² that bounds nothing else is AdamW with a shield.
            lab.tau = None
            lab.controls.optimizer.value = "adamw2"
            lab.message = (
                "A shield needs AdamW²: chosen, with τ off for all but shielded groups. Reset or fork."
            )
        lab.set_group(group, own)

    def _attention_chosen(self, change: Any) -> None:
        if not self._quiet and change["new"] is not None:
            self.lab.controls.attention = change["new"]
            self.lab.say("")


def _choice(description: str, options: list[str], value: str) -> ipywidgets.ToggleButtons:
    return ipywidgets.ToggleButtons(
        options=options,
        value=value,
        tooltips=[f"{description}: {option}" for option in options],
        style={"button_width": "96px"},
    )


def _named(description: str, buttons: ipywidgets.ToggleButtons) -> ipywidgets.HBox:
    name = ipywidgets.HTML(description, layout=ipywidgets.Layout(width="92px"))
    return row(name, buttons)


def _choice_of(own: GroupSettings) -> str | None:
    """The button that stands for a group's settings; None for those that have none."""
    if not own:
        return REST
    for text, factor in SHOCKS.items():
        if own == {"warmup": 0, "lr_multiplier": factor}:
            return text
    return SHIELD if set(own) == {"tau"} and own["tau"] is not None else None


def _kinds(attention: str, *known: str) -> list[str]:
    """The model's own kind of attention, and uniform."""
    own = next((kind for kind in (attention, *known) if kind != "uniform"), "softmax")
    return [own, "uniform"]
