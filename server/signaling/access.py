"""Who may call what. Each route declares it; what declares nothing is refused to everybody."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from server.domain.directory import AuthedUser, Role


@dataclass(frozen=True, slots=True)
class Access:
    """`roles` None: anybody, also without a login. `page`: people see a login page or a sentence, not JSON."""

    roles: frozenset[Role] | None
    page: bool = False

    def allows(self, user: AuthedUser) -> bool:
        return self.roles is None or user.role in self.roles


ANYBODY = Access(None)
STAFF = Access(frozenset(Role))
SUPERVISORS = Access(frozenset({Role.ADMIN, Role.SUPERVISOR}))
ADMINS = Access(frozenset({Role.ADMIN}))
ANYBODY_PAGE = Access(None, page=True)
STAFF_PAGE = Access(frozenset(Role), page=True)
SUPERVISORS_PAGE = Access(frozenset({Role.ADMIN, Role.SUPERVISOR}), page=True)

AccessTable = dict[tuple[str, str], Access]
ACCESS: web.AppKey[AccessTable] = web.AppKey("access", dict)
USER: web.RequestKey[AuthedUser] = web.RequestKey("user", AuthedUser)


def declare(app: web.Application, method: str, path: str, access: Access) -> None:
    """Say who may use a route; `path` as it was given to the router."""
    app[ACCESS][method, path] = access


def access_of(request: web.Request) -> Access | None:
    """What the route of a request declared, None if nothing."""
    resource = request.match_info.route.resource
    if resource is None:
        return None
    method = "GET" if request.method == "HEAD" else request.method
    return request.app[ACCESS].get((method, resource.canonical))
