"""``gearsync migrate``: a recipe written for rgsync becomes a file of functions.

``recipe`` runs it, with the stand-ins of ``standins`` in place of rgsync and RedisGears; ``translation``
finds the function for each call that it made, ``databases`` its target; ``text`` writes them down.
"""

from __future__ import annotations
