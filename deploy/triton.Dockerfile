# syntax=docker/dockerfile:1
# Triton with a model repository in its image, for machines that mount nothing. Build deploy/repository.Dockerfile first,
# and use the repository's root as context.
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:26.09-py3
ARG REPOSITORY_IMAGE=conch-repository:local

FROM ${REPOSITORY_IMAGE} AS repository

FROM ${TRITON_IMAGE}
COPY --from=repository /models /models
COPY deploy/triton/tritonserver.sh /opt/conch/tritonserver.sh
USER 1000:1000
EXPOSE 8001 8002
HEALTHCHECK --interval=5s --timeout=5s --start-period=120s --start-interval=1s --retries=3 \
    CMD ["curl", "--silent", "--fail", "--noproxy", "*", "--output", "/dev/null", "http://127.0.0.1:8002/metrics"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/bin/sh", "/opt/conch/tritonserver.sh"]
