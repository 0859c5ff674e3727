"""What a session tells whoever shows it."""


class Listener:
    """Is told what happens to a session; a method does nothing until a subclass overrides it."""

    def frame(self) -> None:
        """There may be something new to draw. Called from the session's thread, and once after its end."""

    def changed(self) -> None:
        """State, message or moment has changed, and somebody waits to see it."""

    def branches_changed(self) -> None:
        """There are other branches, or another one is the current one. No thread trains meanwhile."""

    def settings_changed(self) -> None:
        """The wanted settings have changed."""
