"""What the lab shows of a session: controls, charts, words."""
