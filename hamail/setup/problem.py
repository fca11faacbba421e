"""Why something is not done, and what to do about it."""


class SetupError(Exception):
    """Nothing was changed, or all of it was taken back. `hint` is the next step."""

    def __init__(self, reason: str, hint: str = "", reasons: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.reason, self.hint, self.reasons = reason, hint, reasons
