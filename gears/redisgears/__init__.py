"""The host RedisGears 1.2: what runs inside its Python 3.7 (docs/redisgears.md).

``script.py`` alone runs where the command line does: it packs everything else into what is uploaded.
"""
