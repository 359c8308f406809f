"""Measure how many photographs a second MediaPipe's package finds the hands in."""

import argparse
import json
import time
from pathlib import Path

import mediapipe as mp
import numpy as np
from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("listing", type=Path, help="JSON file with the paths of the photographs")
    files = json.loads(parser.parse_args().listing.read_text())
    hands = mp.solutions.hands.Hands(static_image_mode=True, max_num_hands=2, model_complexity=1)

    def finds_hand(file: str) -> bool:
        return hands.process(np.asarray(Image.open(file).convert("RGB"))).multi_hand_landmarks is not None

    finds_hand(files[0])
    start = time.perf_counter()
    found = sum(finds_hand(file) for file in files)
    print(json.dumps({"found": found, "images_per_second": len(files) / (time.perf_counter() - start)}))


if __name__ == "__main__":
    main()
