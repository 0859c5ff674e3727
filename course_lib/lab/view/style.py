"""The style sheet of the lab."""

STYLE = """<style>
.course-lab { max-width: 1500px; }
.course-lab .course-lab-chart { contain: layout paint; --bq-axislabel-font: 11.5px sans-serif; }
.course-lab .course-lab-choice { margin: var(--jp-widgets-margin, 2px); }
.course-lab .course-lab-chart .object_grp text { paint-order: stroke; stroke-width: 3px;
  stroke: var(--jp-layout-color0, white); stroke-linejoin: round; }
.course-lab-status { display: flex; flex-wrap: wrap; gap: 2px 14px; align-items: center; min-height: 24px;
  font-variant-numeric: tabular-nums; line-height: 1.5; }
.course-lab-status progress { width: 160px; height: 10px; accent-color: #0173b2; }
.course-lab-message { font-style: italic; }
.course-lab-live { font-size: 12px; line-height: 1.4; opacity: .8; min-height: 17px; }
.course-lab-legend { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 12px; line-height: 1.5; }
.course-lab-legend i { display: inline-block; width: 18px; height: 3px; margin-right: 6px;
  vertical-align: middle; }
.course-lab-drawers button.mod-active { box-shadow: inset 0 -3px 0 #0173b2; }
.course-lab-hint { font-size: 12px; line-height: 1.4; opacity: .85; }
.course-lab-branches { font-size: 12px; line-height: 1.4; border-collapse: collapse;
  font-variant-numeric: tabular-nums; }
.course-lab-branches th, .course-lab-branches td { text-align: left; font-weight: normal;
  padding: 1px 12px 1px 4px; vertical-align: top; }
.course-lab-branches th { opacity: .75; }
.course-lab-branches td:first-child { white-space: nowrap; }
.course-lab-branches i { display: inline-block; width: 18px; height: 4px; margin-right: 6px;
  vertical-align: middle; }
.course-lab-branches tr.course-lab-current { font-weight: 600; background: rgba(127, 127, 127, .12); }
.course-lab-advice { display: none; border-left: 5px solid #DE8F05; padding: 6px 12px; margin: 4px; }
.course-lab.jupyter-widgets-disconnected .course-lab-advice { display: block; }
.course-lab.jupyter-widgets-disconnected .course-lab-status { display: none; }
.course-lab .jupyter-widgets-disconnected::before { content: none; }
.course-lab.jupyter-widgets-disconnected button,
.course-lab.jupyter-widgets-disconnected .widget-slider,
.course-lab.jupyter-widgets-disconnected .widget-dropdown { pointer-events: none; opacity: .35; }
.course-lab-verdict { border-left: 5px solid; padding: 2px 0 2px 12px; margin: 2px 4px; line-height: 1.35; }
.course-lab-verdict h4 { margin: 0 0 4px; font-size: 15px; }
.course-lab-verdict p { margin: 0 0 4px; }
.course-lab-verdict table { font-size: 12px; border-collapse: collapse;
  font-variant-numeric: tabular-nums; }
.course-lab-verdict th, .course-lab-verdict td { text-align: left; font-weight: normal;
  padding: 1px 9px 1px 0; vertical-align: top; }
.course-lab-verdict th, .course-lab-verdict em { opacity: .75; white-space: nowrap; }
.course-lab-verdict td:first-of-type { white-space: nowrap; }
</style>"""
