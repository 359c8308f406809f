"""Trainings in one job, one after the other, whose errors are printed. The argument is a list of commands as JSON.

The container has this file among its jobs.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from jobs import train_cnn

for command in json.loads(sys.argv[1]):
    sys.argv = command
    try:
        train_cnn.main()
    except Exception as error:
        print(f"error: {error}")
