"""Why, and what if: GET handlers for the reasons in the history, and for all that `hamailctl plan` starts from."""

from aiohttp import web

from hamail.control import errors
from hamail.control.api import PREFIX, Why
from hamail.control.port import Backend
from hamail.control.views import DIGITS_MAX, answer, known_group, parameters

TARGET_CHARS_MAX = 80


class Insight:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> list[web.RouteDef]:
        return [web.get(f"{PREFIX}/why/{{target}}", self.why), web.get(f"{PREFIX}/situation", self.situation)]

    async def situation(self, request: web.Request) -> web.Response:
        parameters(request, ())
        return answer(self._backend.situation())

    async def why(self, request: web.Request) -> web.Response:
        """A group by its name; an event or a move by its number."""
        parameters(request, ())
        target = request.match_info["target"]
        state = self._backend.state()
        if target in state.spec.groups or not (target.isascii() and target.isdigit() and len(target) <= DIGITS_MAX):
            group = known_group(state, target)
            return answer(Why(group=group, sentences=self._backend.why(group)))
        found = self._backend.account(int(target))
        if found is None:
            raise errors.not_found(
                f"the history has no entry {target[:TARGET_CHARS_MAX]}; 'hamailctl events' and 'hamailctl history' "
                "show the numbers of those that it keeps"
            )
        return answer(found)
