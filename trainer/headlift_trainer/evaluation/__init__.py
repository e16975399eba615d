"""Held-out metrics, the paper's protocols, other methods' renders, tables and one HTML report.

records.py    one measured picture, and means over them (metrics are in headlift_trainer.metrics)
held_out.py   the generated heads that nothing was trained on
baselines.py  the mean training head and the nearest one;  coded_baselines.py  their small file
in_memory.py  what training prints between its stages
synthetic.py  metrics on held-out generated heads;  summary.py  as JSON;  release.py  as a page
protocols.py  the paper's subjects and pairs of views;  avatars.py  runs them;  real.py  data to run them on
folders.py    any other method, from a folder of its renders
published.py  what the paper reports;  tables.py  tables like its own;  report.py, sheets.py  one page with everything
"""
