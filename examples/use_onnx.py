"""Classify images with an exported run, without PyTorch: pip install onnxruntime numpy pillow

meanteacher export RUN --format onnx --out exported
python examples/use_onnx.py exported/model.onnx photo.jpg more/*.jpg
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def main(model: str, paths: list[str]) -> None:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    (images,) = session.get_inputs()  # uint8 [N, H, W, C] of any size
    mode = "RGB" if images.shape[3] == 3 else "L"
    for path in paths:
        try:
            pixels = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert(mode))
        except Exception as error:  # Pillow's decoders raise errors of many types
            print(f"{path}\tcannot be read ({error})")
            continue
        (probabilities,) = session.run(None, {images.name: pixels.reshape(1, *pixels.shape[:2], -1)})
        print(f"{path}\t{classes[probabilities.argmax()]}\t{probabilities.max():.4f}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
