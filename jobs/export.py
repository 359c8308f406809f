"""Export a trained network to a format for phones, browsers or other servers, and compare its predictions.

spark-submit jobs/export.py runs/cnn --format tflite --output runs/tflite
"""

import sys
from pathlib import Path

# not __file__, which Databricks does not define
sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from experiments.arguments import ExportArguments
from experiments.command_line import parse_arguments, run_job
from experiments.logs import LOGGER
from experiments.session import open_session

# Maximum difference between the probabilities of a network in two formats, whose kernels round differently.
TOLERANCE = 1e-3


def main() -> None:
    arguments = parse_arguments(ExportArguments, "Write a trained network in another format.")
    spark = open_session("export", ("models.export", "experiments.trained_run"))

    import numpy as np

    from experiments.run_directory import open_runs, staged_run
    from experiments.trained_run import open_network
    from models.errors import TrainingError
    from models.export import export_network
    from preprocessing.storage import Storage, reader

    storage = Storage(spark)
    (run,) = open_runs(storage, [arguments.run])
    network, class_names, preprocessing = open_network(storage, run)
    folder = storage.absolute(run.files)
    if storage.is_folder(f"{folder}/test_pictures"):
        pictures = reader(spark).parquet(f"{folder}/test_pictures")
        predictions = reader(spark).parquet(f"{folder}/predictions")
        rows = pictures.join(predictions, "id").select("pixels", "probabilities").collect()
        pixels = np.stack([np.frombuffer(row["pixels"], dtype=np.uint8) for row in rows])
        expected = np.array([row["probabilities"] for row in rows], dtype=np.float32)
        compared = "of its test pictures"
    else:  # the pretrained run has no pictures, which belong to others
        pixels = np.random.default_rng(0).integers(0, 256, (16, network.input_shape[1]), dtype=np.uint8)
        expected, compared = network(pixels).numpy(), "random pictures"
    with staged_run(
        storage, arguments.output, arguments.overwrite, "export", inputs=[storage.absolute(run.path)]
    ) as staged:
        probabilities = export_network(network, class_names, preprocessing, arguments.format, staged.local)(pixels)
        difference = float(np.abs(probabilities - expected).max())
        if difference > TOLERANCE:
            raise TrainingError(
                f"{arguments.format}: the probabilities differ from the run's by up to {difference:.2g}; the maximum is"
                f" {TOLERANCE:g}"
            )
    num_different = int((probabilities.argmax(axis=1) != expected.argmax(axis=1)).sum())
    LOGGER.info(
        f"{arguments.output}: answers as the run does on {len(pixels):,} {compared}, {num_different} with"
        f" another letter; probabilities differ by {difference:.1g} at most"
    )


if __name__ == "__main__":
    run_job(main)
