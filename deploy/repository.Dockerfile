# syntax=docker/dockerfile:1
# A model repository as an image: models are exported while it is built, so that nothing is exported, and nothing fetched
# from a hub, where it is served. Build deploy/export.Dockerfile first, and use the repository's root as context.
#
#   docker build --file deploy/repository.Dockerfile --build-arg MODELS="all-minilm-l6-v2" --build-arg CORES=4 .
#
# conch.lock pins the checkpoints. REPOSITORY_SHA256 is the hash of SHA256SUMS in the image:
#
#   docker run --rm --entrypoint sha256sum IMAGE /models/SHA256SUMS
ARG EXPORT_IMAGE=conch-export:local
ARG BASE=debian:bookworm-slim

FROM ${EXPORT_IMAGE} AS export
ARG MODELS=all-minilm-l6-v2
ARG CORES=2
USER 0:0
RUN install -d -o 10001 -g 10001 /repository
USER 10001:10001
ENV CONCH_MODEL_REPOSITORY=/repository
COPY --chown=10001:10001 model_repository/conch.lock /repository/
RUN --mount=type=cache,target=/cache,uid=10001,gid=10001 \
    conch preload ${MODELS} \
    && for model in ${MODELS}; do conch export "${model}" --cores "${CORES}" || exit 1; done
COPY deploy/repository/seal.sh /tmp/
RUN sh /tmp/seal.sh /repository

FROM ${BASE}
COPY deploy/repository/copy.sh /bin/copy.sh
# KServe expects the models of an OCI image here.
COPY --from=export /repository /models
USER 10001:10001
ENTRYPOINT ["/bin/sh", "/bin/copy.sh"]
CMD ["/models", "/copy"]
