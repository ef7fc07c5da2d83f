# A toxmesh node in a container; docs/install.md: Container.
#
#   docker build -t toxmesh .
#   docker run -d --network host -v toxmesh:/var/lib/toxmesh --stop-timeout 15 toxmesh

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY core core
COPY broker broker
COPY workers workers
COPY ops ops
COPY toxmesh toxmesh
RUN python -m venv /opt/toxmesh \
    && /opt/toxmesh/bin/pip install --no-cache-dir --only-binary pynacl,pyzmq,msgpack,orjson,psutil,cffi,pydantic-core . \
    && /opt/toxmesh/bin/python -m pip uninstall --yes pip setuptools

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="toxmesh" \
      org.opencontainers.image.description="Tox bootstrap, onion and relay node that uses every core" \
      org.opencontainers.image.licenses="GPL-3.0-or-later"
RUN groupadd --gid 33445 toxmesh \
    && useradd --uid 33445 --gid 33445 --home-dir /var/lib/toxmesh --shell /usr/sbin/nologin toxmesh \
    && install -d -o toxmesh -g toxmesh -m 750 /var/lib/toxmesh
COPY --from=build /opt/toxmesh /opt/toxmesh
ENV PATH=/opt/toxmesh/bin:$PATH \
    STATE_DIRECTORY=/var/lib/toxmesh \
    PYTHONDONTWRITEBYTECODE=1
USER 33445:33445
VOLUME /var/lib/toxmesh
EXPOSE 33445/udp 33445/tcp
# SIGTERM lets it finish what it has in hand, save the known nodes and end within 5 s. It is the
# first process of the container and reaps its own children; no init is needed.
STOPSIGNAL SIGTERM
# 1, degraded, is a worker that is being started again: nobody has to end the container for that.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD toxmesh ops status > /dev/null || [ $? -eq 1 ]
ENTRYPOINT ["toxmesh"]
CMD ["run"]
