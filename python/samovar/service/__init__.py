"""Typed services: plain classes whose methods are HTTP endpoints, and what calls other models from them.

`declaration`, `paths`, `uses`, `handles` and `steps` import the standard library alone: every program and every worker
has them. What describes and serves a class (`describe`, `application`, and all that they import) needs FastAPI and
pydantic, which only the workers of services pay for: it is imported inside functions.
"""
