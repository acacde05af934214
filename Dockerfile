# Images of gearsync: what a container of each target does is in docs/docker.md.
#   docker build --target module --tag gearsync-module:dev .     Redis with the module, and Python for its workers
#   docker build --target valkey --tag gearsync-valkey:dev .     the same with Valkey
#   docker build --target cli --tag gearsync-cli:dev .           the command line
# Another version of a server or of Python: --build-arg REDIS_TAG=7.2.12-bookworm, and so on. It must be one on Debian.
ARG REDIS_TAG=7.4.7-bookworm
ARG VALKEY_TAG=8.0.6-trixie
ARG PYTHON_TAG=3.13.9-slim-bookworm

# The wheel, with the module in it, on the oldest C library that it meets below.
FROM python:${PYTHON_TAG} AS wheel
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE ./
COPY connectors connectors
COPY deploy deploy
COPY gears gears
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

# The command line.
FROM python:${PYTHON_TAG} AS cli-installed
COPY --from=wheel /wheels /wheels
RUN python -m venv /opt/gearsync \
    && /opt/gearsync/bin/pip install --no-cache-dir /wheels/gearsync-*.whl

FROM python:${PYTHON_TAG} AS cli
RUN useradd --system --uid 999 --home-dir /work --create-home gearsync
COPY --from=cli-installed /opt/gearsync /opt/gearsync
ENV PATH=/opt/gearsync/bin:$PATH
USER 999
WORKDIR /work
# It does one thing and ends.
HEALTHCHECK NONE
ENTRYPOINT ["gearsync"]
CMD ["--help"]

# Redis, with the Python of its own Debian: that of the workers, which the module starts.
FROM redis:${REDIS_TAG} AS redis-python
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/*

FROM redis-python AS redis-installed
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY --from=wheel /wheels /wheels
# The link is the module's name in the commands below, whatever the version of Python in its path.
RUN python3 -m venv /opt/gearsync \
    && /opt/gearsync/bin/pip install --no-cache-dir /wheels/gearsync-*.whl \
    && ln -s "$(/opt/gearsync/bin/gearsync module path)" /opt/gearsync/gearsync.so

FROM redis-python AS module
COPY --from=redis-installed /opt/gearsync /opt/gearsync
ENV PATH=/opt/gearsync/bin:$PATH
# The image's own user, redis.
USER 999:999
HEALTHCHECK --interval=5s --timeout=3s --retries=12 CMD ["redis-cli", "-e", "ping"]
CMD ["redis-server", "--appendonly", "yes", "--loadmodule", "/opt/gearsync/gearsync.so", "PYTHON", "/opt/gearsync/bin/python"]

# Valkey, in the same three steps.
FROM valkey/valkey:${VALKEY_TAG} AS valkey-python
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/*

FROM valkey-python AS valkey-installed
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY --from=wheel /wheels /wheels
RUN python3 -m venv /opt/gearsync \
    && /opt/gearsync/bin/pip install --no-cache-dir /wheels/gearsync-*.whl \
    && ln -s "$(/opt/gearsync/bin/gearsync module path)" /opt/gearsync/gearsync.so

FROM valkey-python AS valkey
COPY --from=valkey-installed /opt/gearsync /opt/gearsync
ENV PATH=/opt/gearsync/bin:$PATH
# The image's own user, valkey.
USER 999:999
HEALTHCHECK --interval=5s --timeout=3s --retries=12 CMD ["valkey-cli", "-e", "ping"]
CMD ["valkey-server", "--appendonly", "yes", "--loadmodule", "/opt/gearsync/gearsync.so", "PYTHON", "/opt/gearsync/bin/python"]
