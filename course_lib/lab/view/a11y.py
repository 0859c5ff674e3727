"""Names and states of the controls for screen readers.

Sliders of ipywidgets have no name and report the position of their handle, which for a learning rate is its
logarithm. Toggle buttons do not say whether they are pressed. A script in the browser corrects both while the
lab is shown.
"""

import ipywidgets

_SCRIPT = """<script>
(() => {
  const here = document.currentScript;
  const set = (element, name, value) => {
    if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
  };
  const name = (lab) => {
    for (const slider of lab.querySelectorAll('.widget-slider')) {
      const label = slider.querySelector('.widget-label').textContent;
      const handle = slider.querySelector('.noUi-handle');
      const readout = slider.querySelector('.widget-readout');
      set(handle, 'aria-label', label);
      set(handle, 'aria-valuetext', readout.textContent);
      set(handle, 'aria-disabled', handle.closest('.noUi-target').hasAttribute('disabled'));
      set(handle, 'data-lm-suppress-shortcuts', true);  // else Notebook 7 takes the arrow keys for its cells
      if (slider.classList.contains('course-lab-choice')) {  // what is typed there would do nothing
        set(readout, 'contenteditable', false);
      } else {
        set(readout, 'role', 'textbox');
        set(readout, 'aria-label', `${label}, in figures`);
      }
    }
    for (const button of lab.querySelectorAll('.widget-toggle-button, .widget-toggle-buttons button'))
      set(button, 'aria-pressed', button.classList.contains('mod-active'));
    for (const button of lab.querySelectorAll('.widget-toggle-buttons button'))
      set(button, 'aria-label', button.title);
  };
  const find = () => {
    const lab = here.closest('.course-lab');
    if (!lab) return setTimeout(find, 200);  // not yet in its place
    const names = ['aria-valuetext', 'class', 'contenteditable', 'disabled'];
    new MutationObserver(() => name(lab)).observe(
      lab, {subtree: true, childList: true, attributes: true, attributeFilter: names});
    name(lab);
  };
  find();
})();
</script>"""


def control_names() -> ipywidgets.Output:
    """A widget without a size. Put into a lab, it names the lab's controls."""
    output = {"output_type": "display_data", "data": {"text/html": _SCRIPT}, "metadata": {}}
    return ipywidgets.Output(outputs=(output,), layout=ipywidgets.Layout(height="0", overflow="hidden"))
