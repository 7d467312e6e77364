# The service, running the bundled model, or a .safetensors model file, in PyTorch.
#
#   docker build -t roadseg .
#   docker run --rm -p 8000:8000 --read-only roadseg
#   docker run --rm -p 8000:8000 --read-only -v "$PWD/model.safetensors:/model.safetensors:ro" roadseg --model /model.safetensors

FROM python:3.11-slim AS build
RUN python -m venv /opt/roadseg
ENV PATH=/opt/roadseg/bin:$PATH
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY roadseg roadseg
COPY service service
RUN pip install --no-cache-dir --constraint constraints.txt '.[torch,serve]'

FROM python:3.11-slim
COPY --from=build /opt/roadseg /opt/roadseg
RUN useradd --system --uid 10001 --no-create-home roadseg
USER roadseg
ENV PATH=/opt/roadseg/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
# 0.0.0.0 is the container's own network; publish the port only to whom it is meant for.
ENTRYPOINT ["roadseg", "serve", "--host", "0.0.0.0", "--port", "8000"]
