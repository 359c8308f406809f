"""Write a trained network as phones, browsers and other servers want it, and see that it answers alike.

spark-submit jobs/export.py runs/cnn --format tflite --output runs/tflite
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs.command_line import ExportArguments, parse_export
from jobs.session import open_session, run_job

# Between probabilities of one network in two formats, whose kernels round differently.
TOLERANCE = 1e-3


def main() -> None:
    arguments: ExportArguments = parse_export()
    spark = open_session("export", ("models.export", "jobs.trained_run"))

    import numpy as np

    from jobs.run_directory import open_runs, staged_run
    from jobs.trained_run import open_network
    from models.errors import TrainingError
    from models.export import export_network
    from preprocessing.storage import Storage, reader

    storage = Storage(spark)
    (run,) = open_runs(storage, [arguments.run])
    network, classes, settings = open_network(storage, run)
    folder = storage.absolute(run.files)
    pictures = reader(spark).parquet(f"{folder}/test_pictures")
    rows = (
        pictures.join(reader(spark).parquet(f"{folder}/predictions"), "id").select("pixels", "probabilities").collect()
    )
    pixels = np.stack([np.frombuffer(row["pixels"], dtype=np.uint8) for row in rows])
    expected = np.array([row["probabilities"] for row in rows], dtype=np.float32)
    with staged_run(
        storage, arguments.output, arguments.overwrite, "export", inputs=[storage.absolute(run.path)]
    ) as staged:
        found = export_network(network, classes, settings, arguments.format, staged.local)(pixels)
        difference = float(np.abs(found - expected).max())
        if difference > TOLERANCE:
            raise TrainingError(
                f"{arguments.format}: its probabilities are up to {difference:.2g} from the run's;"
                f" {TOLERANCE:g} are allowed"
            )
    letters = int((found.argmax(axis=1) != expected.argmax(axis=1)).sum())
    print(
        f"{arguments.output}: answers as the run does on {len(pixels):,} of its test pictures, {letters} with another"
        f" letter; probabilities differ by {difference:.1g} at most",
        flush=True,
    )


if __name__ == "__main__":
    run_job(main)
