# syntax=docker/dockerfile:1
# The node in a small image: docker build --tag vestibule .
#
# Three stages build: `plan` reduces the tree to what decides on the dependencies, `build` compiles these, which is
# nearly all of the time and stays cached until Cargo.lock changes, and then the program itself.

ARG RUST_VERSION=1.95
ARG DEBIAN=bookworm

FROM rust:${RUST_VERSION}-slim-${DEBIAN} AS chef
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# The log's client library is compiled from C; it needs OpenSSL and zlib.
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install --yes --no-install-recommends build-essential pkg-config libssl-dev zlib1g-dev \
  && rm -rf /var/lib/apt/lists/*
RUN --mount=type=cache,target=/usr/local/cargo/registry \
  cargo install cargo-chef --locked --version 0.1.73
WORKDIR /src

FROM chef AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM chef AS build
COPY --from=plan /src/recipe.json recipe.json
RUN --mount=type=cache,target=/usr/local/cargo/registry \
  cargo chef cook --release --locked --bin vestibule --recipe-path recipe.json
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
  cargo build --release --locked --bin vestibule \
  && install -D --strip target/release/vestibule /out/vestibule

FROM debian:${DEBIAN}-slim AS runtime
# What the program links to, and the authorities for TLS to backends.
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install --yes --no-install-recommends ca-certificates libssl3 zlib1g \
  && rm -rf /var/lib/apt/lists/* \
  && mkdir -m 700 /data && chown 65532:65532 /data

COPY --from=build /out/vestibule /usr/local/bin/vestibule

ARG VERSION=0.0.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="Vestibule" \
  org.opencontainers.image.description="A horizontally scaled real-time gateway that speaks Socket.IO" \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}" \
  org.opencontainers.image.created="${CREATED}" \
  org.opencontainers.image.base.name="docker.io/library/debian:bookworm-slim"

# In a container everybody comes from outside, so `auth.mode = "token"` is needed, with a secret or keys.
ENV VESTIBULE__EDGE__LISTEN=0.0.0.0:8080 \
  VESTIBULE__EDGE__OPERATIONS=0.0.0.0:8081 \
  VESTIBULE__EDGE__INTERNAL=0.0.0.0:7946 \
  VESTIBULE__AUTH__MODE=token \
  VESTIBULE__DATA=/data \
  VESTIBULE__TELEMETRY__LOG_FORMAT=json

USER 65532:65532
# Only embedded mode writes here.
VOLUME /data
EXPOSE 8080 8081 7946
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --start-interval=1s CMD ["vestibule", "health"]
# Not through a shell: the node itself gets the SIGTERM that begins its drain.
ENTRYPOINT ["vestibule"]
CMD ["serve"]
