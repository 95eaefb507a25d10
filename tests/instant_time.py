"""Puts time into the hands of a test: it passes when somebody waits, and at once."""

from dishka import Provider, Scope, provide

from implementations.background.supervisor import Supervisor
from metrics import Metrics
from protocols import ClockProtocol, SleepProtocol
from tests.fakes import Clock, InstantSleep


class InstantTime(Provider):
    """To be given to `create_app`. waiting.naps: how long the service would have waited, in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.now = Clock()
        self.waiting = InstantSleep(self.now)

    @provide(scope=Scope.APP, override=True)
    def clock(self) -> ClockProtocol:
        """Replace the clock."""
        return self.now

    @provide(scope=Scope.APP, override=True)
    def sleep(self) -> SleepProtocol:
        """Replace the waiting."""
        return self.waiting

    @provide(scope=Scope.APP, override=True)
    def supervisor(self, metrics: Metrics) -> Supervisor:
        """The service's own tasks would make time fly."""
        return Supervisor({}, metrics=metrics, clock=self.now, sleep=self.waiting)
