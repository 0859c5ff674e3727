"""The drawers of the lab, which hold its further controls."""
