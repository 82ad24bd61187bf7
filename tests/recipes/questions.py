"""Questions about contexts that a tiny model learns to answer, as a file in the form of SQuAD."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.tiny import BAD, GOOD

FILLING = ("a", "and", "the", "was")
ASKED = {"film": GOOD, "plot": BAD}  # the question, and the words of which its answer consists


def write_squad(file: Path, contexts: int, seed: int, impossible: bool = False, longest: int = 30) -> Path:
    """Contexts of filling words with a run of good and a run of bad words; each is asked for both.

    Args:
      file: the file to write.
      contexts: the number of contexts, each with two questions.
      seed: the seed.
      impossible: whether a third of the contexts have one of the runs only.
      longest: the most filling words of a context.
    """
    random = np.random.default_rng(seed)
    paragraphs = []
    for number in range(contexts):
        runs = {name: random.choice(words, random.integers(1, 4)).tolist() for name, words in ASKED.items()}
        if impossible and number % 3 == 0:
            runs[str(random.choice(list(runs)))] = []
        filling = random.choice(FILLING, random.integers(6, longest)).tolist()
        first, second = sorted(random.choice(len(filling) - 1, 2, replace=False) + 1)
        order = random.permutation(list(runs)).tolist()
        words = [*filling[:first], *runs[order[0]], *filling[first:second], *runs[order[1]], *filling[second:]]
        context = " ".join(words)
        qas: list[dict[str, Any]] = []
        for name, run in runs.items():
            answer = " ".join(run)
            answers = [{"text": answer, "answer_start": context.index(answer)}] if run else []
            qas.append({"id": f"{seed}-{number}-{name}", "question": name, "answers": answers})
            if impossible:
                qas[-1]["is_impossible"] = not run
        paragraphs.append({"context": context, "qas": qas})
    file.write_text(json.dumps({"version": "made", "data": [{"title": "made", "paragraphs": paragraphs}]}))
    return file
