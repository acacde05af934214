"""An example: hashes ``person:1``, ``person:2``, … become rows of ``persons``, in two databases at once.

The URLs are in the environment of the workers, which is Redis' own, and of ``gearsync check`` and ``deploy``.
"""

from __future__ import annotations

from connectors import Target
from gears import WriteBehind, deployment_settings

deployment_settings(name="people")

for target in (Target("env:POSTGRES_URL", name="postgres"), Target("env:MYSQL_URL", name="mysql")):
    WriteBehind(
        name=f"persons-{target.name}",
        keys="person:{person_id}",
        table="persons",
        columns={"first_name": "first", "last_name": "last", "age": "age"},
        target=target,
    )
