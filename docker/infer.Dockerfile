# Runs an exported model with numpy, Pillow and onnxruntime, on a CPU. In the folder that `xvit-det export` wrote to:
#   docker build -t xvit-infer -f docker/infer.Dockerfile work_dirs/demo
#   docker run --rm -v "$PWD/photos:/photos:ro" xvit-infer /photos/one.jpg
FROM python:3.12-slim
RUN pip install --no-cache-dir numpy==2.2.6 onnxruntime==1.31.1 pillow==12.3.0
WORKDIR /app
ARG MODEL=checkpoint.onnx
COPY infer.py ./
COPY ${MODEL} model.onnx
# nobody
USER 65534
ENTRYPOINT ["python", "infer.py", "model.onnx"]
