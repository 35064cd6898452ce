# One image with every command of ours in it; docs/operations.md tells how to build and to run it.
#
#   queue, inventory, checkout, notifier      python -m services.<name>
#   the operator                              python -m catraca_operator
#   the audit of a sale                       catraca audit SALE --environment
#   for trials: an issuer, a payment provider python -m local.issuer, python -m local.sandbox
#   what compose.yaml is made ready by        python -m local.compose
#
# BASE runs it and needs Python 3.11 or 3.12, libstdc++ and CA certificates, no more. BUILD_BASE builds it: the same
# Python, with the venv module. Name a base by digest for an image that is the same tomorrow.
ARG BASE=python:3.12-slim-bookworm
ARG BUILD_BASE=${BASE}

# What is installed from elsewhere: it changes seldom, so it is a layer of its own.
FROM ${BUILD_BASE} AS requirements
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PYTHONHASHSEED=0
RUN python3 -m venv /opt/tools && python3 -m venv --without-pip /opt/catraca
COPY requirements/runtime.txt /src/requirements/
# A pip.conf may name another index, without a trace of it in the image.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    /opt/tools/bin/pip --python /opt/catraca/bin/python install --quiet --no-compile --no-deps --only-binary :all: \
      --require-hashes --requirement /src/requirements/runtime.txt
# The client of Kubernetes brings a second one for asyncio, a quarter of all that is installed, which nobody imports.
# A root that is read-only cannot keep bytecode later; that with a hash needs no times of files to be believed.
ARG SOURCE_DATE_EPOCH=0
RUN rm -r /opt/catraca/lib/python3*/site-packages/kubernetes/aio && \
    /opt/catraca/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/catraca/lib/python3* && \
    echo /opt/own > "$(/opt/catraca/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/own.pth" && \
    find /opt/catraca -exec touch --no-dereference --date "@${SOURCE_DATE_EPOCH}" {} +

# What is ours.
FROM requirements AS own
COPY requirements/build.txt /src/requirements/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    /opt/tools/bin/pip install --quiet --require-hashes --requirement /src/requirements/build.txt
COPY pyproject.toml README.md LICENSE /src/
COPY services /src/services
COPY local /src/local
COPY proto/gen /src/proto/gen
COPY operator /src/operator
COPY charts/catraca/files /src/charts/catraca/files
ARG SOURCE_DATE_EPOCH=0
RUN /opt/tools/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /src/dist /src && \
    /opt/tools/bin/pip --python /opt/catraca/bin/python install --quiet --no-compile --no-deps --no-index \
      --target /opt/own /src/dist/catraca-*.whl && \
    /opt/catraca/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/own && \
    find /opt/own -exec touch --no-dereference --date "@${SOURCE_DATE_EPOCH}" {} +

FROM ${BASE}
# Nothing is installed in here any more, so what the base would install with goes. Volumes that are mounted where the
# folders are take over whose they are.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/ensurepip \
      /usr/lib/python3*/ensurepip /usr/share/python-wheels && \
    mkdir -p /var/lib/catraca/.catraca /var/lib/catraca/stores && chown -R 10001:10001 /var/lib/catraca
COPY --from=requirements /opt/catraca /opt/catraca
COPY --from=own /opt/own /opt/own
ENV PATH=/opt/own/bin:/opt/catraca/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1
# A number, since runAsNonRoot cannot judge a name.
USER 10001:10001
WORKDIR /var/lib/catraca
CMD ["catraca", "--help"]
ARG BASE
ARG REVISION=unknown
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Catraca" \
      org.opencontainers.image.description="Sells scarce tickets to far more people than there are tickets" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.version="${VERSION}"
