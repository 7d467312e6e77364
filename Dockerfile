# The segmentation service. docs/container.md says how to build and run it, and what of this was tried.
#
#   docker build -t roadseg:0.1.0 .                      the bundled model, exported to OpenVINO; no torch inside
#   docker build -t roadseg:0.1.0-runtime --target runtime .    no model: mount an exported one at /model
#   docker build -t roadseg:0.1.0-torch --target torch .        PyTorch, for GPUs and .safetensors model files
#
# It takes no requests without API keys, or ROADSEG_SERVICE_ALLOW_ANONYMOUS=true.

# Pin it where builds must be the same tomorrow: --build-arg BASE=python:3.11-slim@sha256:...
ARG BASE=python:3.11-slim

# A virtual environment of what serving needs. It has no pip of its own: nothing is installed into it later.
FROM ${BASE} AS installed
ARG EXTRAS=openvino,serve
ENV PIP_CONSTRAINT=/source/constraints.txt PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY roadseg roadseg
COPY service service
# Bytecode is written here, for a file system that cannot be written to later; "unchecked": nothing changes any more.
# openvino-telemetry would send usage data to its maker where it can keep a file; OpenVINO does without it.
RUN python -m venv --without-pip /opt/roadseg \
 && python -m pip --python /opt/roadseg/bin/python install --no-compile ".[${EXTRAS}]" \
 && python -m pip --python /opt/roadseg/bin/python uninstall --yes --quiet openvino-telemetry \
 && python -m compileall -q --invalidation-mode unchecked-hash /opt/roadseg/lib

# The same with torch.
FROM ${BASE} AS installed-torch
ARG TORCH_EXTRAS=torch,serve
ENV PIP_CONSTRAINT=/source/constraints.txt PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY roadseg roadseg
COPY service service
RUN python -m venv --without-pip /opt/roadseg \
 && python -m pip --python /opt/roadseg/bin/python install --no-compile ".[${TORCH_EXTRAS}]" \
 && python -m compileall -q --invalidation-mode unchecked-hash /opt/roadseg/lib

# The model as an artefact, checked against torch before it is written.
FROM ${BASE} AS exported
ARG MODEL=roadseg-nano
ENV PIP_CONSTRAINT=/source/constraints.txt PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY roadseg roadseg
COPY service service
RUN python -m venv --without-pip /opt/exporter \
 && python -m pip --python /opt/exporter/bin/python install --no-compile ".[export]" \
 && python -m pip --python /opt/exporter/bin/python uninstall --yes --quiet openvino-telemetry \
 && /opt/exporter/bin/roadseg export "${MODEL}" --format openvino -o /model

# All that the images have in common: no rights, no shell in the way of signals, health without curl.
FROM ${BASE} AS serving
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="roadseg" \
      org.opencontainers.image.description="Road segmentation for HD maps: drive images in, masks of road elements out." \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# The base images of Python come without the standard library's bytecode, and a read-only container never writes it.
# Programs that make one root, such as su, are no use here.
RUN find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
 && python -m compileall -q -x '/(test|tests|idlelib|lib2to3|turtledemo)/' \
      "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
ENV PATH=/opt/roadseg/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ROADSEG_CACHE=off \
    ROADSEG_SERVICE_HOST=0.0.0.0 \
    ROADSEG_SERVICE_PORT=8000
# A number: Kubernetes' runAsNonRoot cannot tell from a name who that is.
USER 10001:10001
WORKDIR /
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-I", "-S", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['ROADSEG_SERVICE_PORT']), timeout=3); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["roadseg", "serve"]

FROM serving AS torch
COPY --from=installed-torch /opt/roadseg /opt/roadseg
# Beside the code the bundled weights, which are for research only.
LABEL io.roadseg.weights.licence="research use only (trained on CamVid)"

FROM serving AS runtime
COPY --from=installed /opt/roadseg /opt/roadseg
LABEL io.roadseg.weights.licence="research use only (trained on CamVid)"
ENV ROADSEG_SERVICE_MODEL=/model

FROM runtime AS service
COPY --from=exported /model /model
