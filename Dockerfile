# The tag names the base; pin its digest for a release.
FROM python:3.11-slim-bookworm AS builder
WORKDIR /build
COPY requirements.lock ./
# Only wheels: to build from source, pip would fetch tools that no lock pins.
RUN python -m venv --without-pip /venv \
    && pip --python /venv install --no-cache-dir --disable-pip-version-check --require-hashes --no-deps \
       --only-binary :all: -r requirements.lock

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="llm-provider-service" \
      org.opencontainers.image.description="An HTTP service in front of several language model providers"
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app
COPY --from=builder /venv /venv
COPY pyproject.toml *.py ./
COPY api api
COPY implementations implementations
# Files keep the permissions of the checkout, where a umask may have taken them from others.
RUN python -m compileall -qq . && chmod -R a+rX .
ARG REVISION=""
LABEL org.opencontainers.image.revision=$REVISION
ENV LLM_PROVIDER_SERVICE_REVISION=$REVISION
# Nothing is written: the root file system may be mounted read-only.
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import http.client, os; probe = http.client.HTTPConnection('localhost', int(os.environ.get('LLM_PROVIDER_SERVICE_PORT') or 8080), timeout=2); probe.request('GET', '/healthz'); exit(probe.getresponse().status != 200)"]
CMD ["python", "app.py"]
