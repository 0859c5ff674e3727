"""What a session tells its view."""


class Listener:
    """Is told what happens to a session. Subclasses override the methods, which do nothing here."""

    def frame(self) -> None:
        """Something new may be there to draw. The session's thread calls it, a last time at its end."""

    def changed(self) -> None:
        """State, message or moment has changed by what a reader did: draw at once."""

    def branches_changed(self) -> None:
        """The branches or the current one have changed. No thread trains during the call."""

    def settings_changed(self) -> None:
        """The wanted settings have changed."""
