# Runs an exported model with numpy, Pillow and onnxruntime, on a CPU. In the repository:
#   docker build -t xvit-infer -f docker/infer.Dockerfile --build-arg MODEL=work_dirs/demo/checkpoint.onnx .
#   docker run --rm -v "$PWD/photos:/photos:ro" xvit-infer /photos/one.jpg
FROM python:3.12-slim
RUN pip install --no-cache-dir numpy==2.2.6 onnxruntime==1.31.1 pillow==12.3.0
WORKDIR /app
ARG MODEL=work_dirs/demo/checkpoint.onnx
COPY xvit_det/deploy/infer.py ./
COPY ${MODEL} model.onnx
# nobody
USER 65534
ENTRYPOINT ["python", "infer.py", "model.onnx"]
