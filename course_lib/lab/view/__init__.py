"""The view of a session: controls, charts, texts."""
