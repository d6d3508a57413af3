# The environment of `make setup`, for training and export, on NVIDIA GPUs or on a CPU:
#   docker build -t xvit-train -f docker/train.Dockerfile --target cuda .
#   docker run --rm --gpus all --shm-size 8g -v "$PWD/data:/work/data" -v "$PWD/work_dirs:/work/work_dirs" \
#     xvit-train train mask_rcnn_xvit_s_3x --data-root data/coco
FROM python:3.12-slim AS base
# The versions of Debian's packages change with the image.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --no-install-recommends -y git make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /work
COPY . .
ENTRYPOINT [".venv/bin/xvit-det"]
CMD ["--help"]

# torch's wheels on PyPI bring CUDA's libraries. The machine needs NVIDIA's driver and container toolkit.
FROM base AS cuda
RUN make setup PYTHON=python3.12

# Without CUDA's libraries, which are most of the size: --build-arg CPU_WHEELS=…, the address that PyTorch's
# installation page gives for the CPU.
FROM base AS cpu
ARG CPU_WHEELS
ENV PIP_EXTRA_INDEX_URL=${CPU_WHEELS}
RUN make setup PYTHON=python3.12
