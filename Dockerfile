# ctkd-search in a container.
#
#     docker build -t ctkd-search .                              for CPUs
#     docker build -t ctkd-search --build-arg DEVICE=cuda .      for NVIDIA GPUs
#
# The searches are in /work/trials, and the recorded teachers, which all of them share, in /work/trials/teachers. Both are
# to be mounted; no VOLUME is declared for them, because Docker would give each container without a mount an empty one.
FROM python:3.12-slim-bookworm

ARG DEVICE=cpu

SHELL ["/bin/bash", "-euo", "pipefail", "-c"]

# The wheels of PyPI have CUDA's libraries in them; those without are at PyTorch's own index.
RUN case "$DEVICE" in \
        cpu) pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu "torch>=2.11" "torchvision>=0.26" ;; \
        cuda) pip install --no-cache-dir "torch>=2.11" "torchvision>=0.26" ;; \
        *) echo "DEVICE must be cpu or cuda, but got $DEVICE" >&2; exit 1 ;; \
    esac

WORKDIR /src
COPY pyproject.toml README.md ./
COPY ctkd_search ./ctkd_search
RUN pip install --no-cache-dir .

COPY spaces /work/spaces
RUN useradd --create-home --uid 1000 search \
    && mkdir -p /work/trials/teachers /home/search/.cache/ctkd-search \
    && chown -R search:search /work /home/search
USER 1000
WORKDIR /work

ENTRYPOINT ["ctkd-search"]
CMD ["--help"]
