# Two images from one file: `light` (UI, worker-ops, beat, flower) and `ai`, which adds the local
# models for worker-ai. docker build --target light .   docker build --target ai .
# Health checks stand in docker-compose.yml, because each process has its own.

FROM python:3.11-slim-bookworm AS base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1
WORKDIR /srv/bharatverse

# What is installed changes seldom; the code, copied last, changes often.
FROM base AS packages-light
RUN python -m venv /opt/venv
COPY requirements.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check -r requirements.txt

FROM packages-light AS packages-ai
COPY requirements-ai.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check -r requirements-ai.txt

# Installed in place, so that the code keeps its Procfile, its .streamlit folder and its paths.
FROM packages-light AS project
COPY pyproject.toml README.md ./
COPY shared shared
COPY ui ui
COPY workers workers
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps -e . \
    && mkdir /installed \
    && cp -r --parents /opt/venv/bin/bharatverse \
       /opt/venv/lib/python3.11/site-packages/*bharatverse* /installed

FROM base AS runtime
# The owner of /data, also of the volume that is mounted there; its shell and home are not needed.
RUN useradd --system --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin archive \
    && install --directory --owner archive --group archive /data
ENV BHARATVERSE_HOME=/data \
    OMP_NUM_THREADS=1
VOLUME /data
COPY . .
# The processes cannot write here; without this each start would compile the code anew.
RUN python -m compileall -q shared ui workers
USER 10001
CMD ["python", "-m", "ui.server"]

FROM runtime AS ai
COPY --from=packages-ai /opt/venv /opt/venv
COPY --from=project /installed /

FROM runtime AS light
COPY --from=packages-light /opt/venv /opt/venv
COPY --from=project /installed /
