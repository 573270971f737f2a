# The images of GoFavorites: `worker`, the default, is what you run, and `dev` is for development and tests only.
# Each has the program, the shared libraries that it needs, and a few files of /etc. There is no shell in them.
#
#   docker build -t gofavorites .
#   docker build -t gofavorites-dev --target dev .
#
# docs/containers.md describes them. `make image` gives the arguments and checks the result.

# The dependencies, from an empty crate: changed sources do not build them again.
FROM rust:1.95-bookworm AS dependencies
WORKDIR /source
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src tests/it \
  && echo '//! Empty.' | tee src/lib.rs tests/it/main.rs >src/main.rs \
  && echo 'fn main() {}' >>src/main.rs \
  && cargo build --release --locked --no-default-features --features server

# Those of the development platform, and those that it needs with more features.
FROM dependencies AS dependencies-dev
RUN cargo build --release --locked --no-default-features --features dev \
  && cargo clean --release --locked --package gofavorites \
  && rm -r src tests

# What the program is built from.
FROM scratch AS sources
COPY .ci/image-root build.rs /
COPY .sqlx .sqlx
COPY migrations migrations
COPY nats nats
COPY src src

# With the development platform: a stand-in auth service that vouches for anybody, and `dev prepare`. Never ship this.
FROM dependencies-dev AS build-dev
COPY --from=sources / ./
ARG GOFAVORITES_COMMIT
ARG SOURCE_DATE_EPOCH
# A dependency is built again if SOURCE_DATE_EPOCH is another, so the build script gets the date by another name.
RUN GOFAVORITES_DATE="$SOURCE_DATE_EPOCH" env --unset=SOURCE_DATE_EPOCH \
    cargo build --release --locked --no-default-features --features dev \
  && ./image-root target/release/gofavorites gofavorites-dev /image

FROM scratch AS dev
COPY --from=build-dev /image /
ARG VERSION=0.1.0
ARG GOFAVORITES_COMMIT=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="gofavorites-dev" \
  org.opencontainers.image.description="For development only: its auth service vouches for anybody." \
  org.opencontainers.image.version="$VERSION" \
  org.opencontainers.image.revision="$GOFAVORITES_COMMIT" \
  org.opencontainers.image.created="$CREATED" \
  org.opencontainers.image.licenses="Apache-2.0" \
  gofavorites.development="true"
USER 10001:10001
ENTRYPOINT ["/usr/bin/gofavorites-dev"]
CMD ["dev", "--help"]

FROM dependencies AS build
COPY --from=sources / ./
ARG GOFAVORITES_COMMIT
ARG SOURCE_DATE_EPOCH
RUN cargo clean --release --locked --package gofavorites \
  && GOFAVORITES_DATE="$SOURCE_DATE_EPOCH" env --unset=SOURCE_DATE_EPOCH \
    cargo build --release --locked --no-default-features --features server \
  && ./image-root target/release/gofavorites gofavorites /image

FROM scratch AS worker
COPY --from=build /image /
ARG VERSION=0.1.0
ARG GOFAVORITES_COMMIT=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="gofavorites" \
  org.opencontainers.image.description="A NATS-native worker that stores the favourites of an investment platform's users." \
  org.opencontainers.image.version="$VERSION" \
  org.opencontainers.image.revision="$GOFAVORITES_COMMIT" \
  org.opencontainers.image.created="$CREATED" \
  org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
# It asks for the worker of this container alone, so GOFAVORITES__WORKER__ID has to be set. GOFAVORITES_URL,
# GOFAVORITES_USER, GOFAVORITES_PASSWORD_FILE and GOFAVORITES_TLS_CA give it a NATS user that may ask, such as operator.
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 CMD ["/usr/bin/gofavorites", "health", "--own"]
ENTRYPOINT ["/usr/bin/gofavorites"]
CMD ["serve"]
