"""GET /v1/reports: what every node sees of its machine and its links, asked of each of them now."""

from aiohttp import web

from hamail.control import errors
from hamail.control.api import PREFIX, ReportsAnswer
from hamail.control.port import Backend
from hamail.control.views import answer, parameters

PATH = "reports"
ASKERS_MAX = 4  # at a time; each keeps every node busy for a moment


class ReportViews:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._askers = 0

    def routes(self) -> list[web.RouteDef]:
        return [web.get(f"{PREFIX}/{PATH}", self.reports)]

    async def reports(self, request: web.Request) -> web.Response:
        parameters(request, ())
        if self._askers >= ASKERS_MAX:
            raise errors.busy(f"{ASKERS_MAX} clients wait for the nodes' reports already; try again in a moment")
        self._askers += 1
        try:
            reports, silent = await self._backend.reports()
        finally:
            self._askers -= 1
        return answer(ReportsAnswer(node=self._backend.status().node, reports=reports, silent=silent))
