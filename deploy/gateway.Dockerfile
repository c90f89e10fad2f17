# syntax=docker/dockerfile:1
# The REST gateway alone: no torch, no onnxruntime, no Triton. Build with the repository's root as context.
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
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
    /opt/conch/bin/pip install --constraint constraints.txt '.[gateway,otel,redis,database]'

FROM python:${PYTHON}
# A new volume gets the mode of the folder that it is mounted on, and CONCH_GATEWAY_USER may be anybody.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin conch \
    && install --directory --owner=10001 --group=10001 --mode=1777 /var/lib/conch
COPY --from=build /opt/conch /opt/conch
COPY deploy/is_ready.py /opt/conch/
ENV PATH=/opt/conch/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    CONCH_HOST=0.0.0.0 \
    CONCH_PORT=8080
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --start-interval=1s --retries=3 \
    CMD ["python", "/opt/conch/is_ready.py"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["conch", "serve"]
CMD ["--triton-url", "triton:8001"]
