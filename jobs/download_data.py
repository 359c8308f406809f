"""Download Sign-MNIST from Kaggle into data/sign_mnist.

make data
"""

import shutil
import sys
from pathlib import Path

# not __file__, which Databricks does not define
sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from preprocessing.sign_mnist import FILES

DATASET = "datamunge/sign-language-mnist"
PAGE = f"https://www.kaggle.com/datasets/{DATASET}"
TARGET = Path("data/sign_mnist")


def main() -> None:
    if all((TARGET / name).exists() for name in FILES.values()):
        print(f"{TARGET} is there already")
        return
    import kagglehub

    try:
        folder = Path(kagglehub.dataset_download(DATASET))
    except Exception as error:  # kagglehub does not catch the exceptions of its HTTP library
        sys.exit(
            f"error: Kaggle cannot be reached ({type(error).__name__}). On a computer with network access, download the"
            f" two CSV files from {PAGE} and copy them here as {TARGET}/{' and '.join(FILES.values())}"
        )
    TARGET.mkdir(parents=True, exist_ok=True)
    for name in FILES.values():
        file = next(folder.rglob(name), None)
        if file is None:
            sys.exit(f"error: {PAGE} no longer contains {name}")
        shutil.copy(file, TARGET / f".{name}")
        (TARGET / f".{name}").rename(TARGET / name)
    print(f"{TARGET}: train with make train CONFIG=conf/sign_mnist.yaml DATA={TARGET}")


if __name__ == "__main__":
    main()
