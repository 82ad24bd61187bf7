"""Runs `tlx predict` with these words and prints the peak memory as JSON: python ours.py RUN --input FILE …"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from process import peak

from tlx.cli.main import main

if __name__ == "__main__":
    sys.argv[1:1] = ["predict"]
    main()
    print(json.dumps({"peak": peak()}))
