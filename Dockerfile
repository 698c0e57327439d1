# The reconciler and the simulated Windchill in one image: `reconciler run` (the default) or `reconciler simulate`.
#
# The first stage builds; the second has Python and the packages, but no tools to build or install more.
#
# The same commit, base image and SOURCE_DATE_EPOCH give the same image (docs/release.md). A release names its base image by
# digest: --build-arg BASE=python:3.11-slim@sha256:…

ARG BASE=python:3.11-slim

FROM ${BASE} AS build
# Seconds since 1970: the time in all files that are built here. With it, compiled modules carry hashes of their sources
# in place of times.
ARG SOURCE_DATE_EPOCH
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements-build.lock requirements-image.lock ./
# Install only files whose hashes are in the lock, and none that would have to be built first.
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /build \
    && /build/bin/pip install --require-hashes --only-binary :all: --requirement requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY reconciler ./reconciler
RUN /build/bin/python -m hatchling build --target wheel --directory /wheels
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /opt/reconciler \
    && pip --python /opt/reconciler/bin/python install --compile --require-hashes --only-binary :all: \
        --requirement requirements-image.lock \
    && pip --python /opt/reconciler/bin/python install --compile --no-index --no-deps /wheels/*.whl

FROM ${BASE}
ARG SOURCE_DATE_EPOCH
RUN pip uninstall --yes setuptools wheel pip \
    && groupadd --gid 10001 reconciler \
    && useradd --no-log-init --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/reconciler --shell /usr/sbin/nologin \
        reconciler \
    && install --directory --owner=10001 --group=10001 --mode=0750 /var/lib/reconciler
COPY --from=build /opt/reconciler /opt/reconciler
ENV PATH=/opt/reconciler/bin:$PATH \
    PYTHONUNBUFFERED=1
# A number instead of the name, because Kubernetes can only check `runAsNonRoot` against a number.
USER 10001:10001
# The state store is here: mount a volume. Nothing is lost without it, but everything is folded again.
WORKDIR /var/lib/reconciler
# No HEALTHCHECK: docker-compose.yml and Kubernetes have probes of their own.
ENTRYPOINT ["reconciler"]
CMD ["run", "-c", "/etc/reconciler/reconciler.toml"]
