"""The drawer of surgery: shock or shield a parameter group, or make attention uniform."""

from functools import partial

import ipywidgets

from course_lib.lab.drawers.drawer import Drawer
from course_lib.lab.session import Session
from course_lib.lab.view.controls import row
from course_lib.lab.view.view import View
from course_lib.models import parameter_groups
from course_lib.runs import GroupSettings
from course_lib.studies.arms import TAU
from course_lib.studies.surgery import GROUP_LABELS

SHOCKS = {f"shock ×{factor}": float(factor) for factor in (1, 3, 10)}
"""Text of a button → learning rate multiplier of a group without warmup."""
REST, SHIELD = "as the rest", "shield"


class SurgeryDrawer(Drawer):
    """A row of choices for each parameter group, and one for attention."""

    title = "Surgery"
    tooltip = "Shock or shield a single group of parameters, and see where the crash lives"

    def __init__(self, session: Session, view: View) -> None:
        super().__init__(session, view)
        self.groups: dict[str, ipywidgets.ToggleButtons] = {}
        for group in parameter_groups(session.run.model):
            options = [REST, *SHOCKS, *([] if group == "norm" else [SHIELD])]
            buttons = _choice(GROUP_LABELS[group], options, REST)
            self._changes.observe(buttons, partial(self.operate, group))
            self.groups[group] = buttons
        kind = session.wanted.attention
        self.attention = _choice("attention", _kinds(kind), kind)
        self._changes.observe(self.attention, self._choose_attention)
        self._stack(
            "Shock: no warmup, and so many times the learning rate (give the rest a warmup above). "
            "Shield: its steps are bounded by τ, as AdamW² bounds them. Groups change at the next "
            "step, attention with the next run or fork.",
            *(_named(GROUP_LABELS[group], buttons) for group, buttons in self.groups.items()),
            _named("attention", self.attention),
        )

    def draw(self) -> None:
        wanted = self.session.wanted
        with self._changes.ignored():
            for group, buttons in self.groups.items():
                buttons.value = _choice_of(wanted.groups.get(group, {}))
            self.attention.options = _kinds(wanted.attention, *self.attention.options)
            self.attention.value = wanted.attention

    def operate(self, group: str, choice: str) -> None:
        """Give a parameter group the settings of one of its buttons."""
        session = self.session
        own: GroupSettings = {}
        if choice in SHOCKS:
            own = {"warmup": 0, "lr_multiplier": SHOCKS[choice]}
        elif choice == SHIELD:
            own = {"tau": session.tau or TAU}
        message = ""
        if choice == SHIELD and session.wanted.optimizer == "adamw":
            # AdamW has no bound. AdamW² that bounds only this group is AdamW with a shield.
            session.set(optimizer="adamw2", tau=None)
            message = "A shield needs AdamW²: chosen, with τ off for all but shielded groups. Reset or fork."
        session.set_group(group, own)
        session.say(message)

    def _choose_attention(self, kind: str) -> None:
        self.session.set(attention=kind)
        self.session.say("")


def _choice(description: str, options: list[str], value: str) -> ipywidgets.ToggleButtons:
    return ipywidgets.ToggleButtons(
        options=options,
        value=value,
        tooltips=[f"{description}: {option}" for option in options],
        style={"button_width": "96px"},
    )


def _named(description: str, buttons: ipywidgets.ToggleButtons) -> ipywidgets.HBox:
    return row(ipywidgets.HTML(description, layout=ipywidgets.Layout(width="92px")), buttons)


def _choice_of(own: GroupSettings) -> str | None:
    """The button that stands for a group's settings, None if no button does."""
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
