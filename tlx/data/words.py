"""The words of tagged sentences, and the predictions of words among the predictions of tokens."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Words:
    """All words of tagged sentences, in the order of the source.

    Attributes:
      label: int32 (words,), the class index of each word; -1 for a word without a label.
      token: int64 (words,), the position in `Examples.ids` of the token that predicts the word; -1 for a word that
        cannot be predicted.
      offsets: int64 (sentences + 1,), the index of the first word of each sentence.
      sentence_id: int64 (sentences,), the row of each sentence in the source.
      windowed: the number of sentences that are longer than `max_length` and were split into several examples.
    """

    label: np.ndarray
    token: np.ndarray
    offsets: np.ndarray
    sentence_id: np.ndarray
    windowed: int

    @property
    def predictable(self) -> np.ndarray:
        """Whether the model can predict the word, bool (words,)."""
        return self.token >= 0

    @property
    def labelled(self) -> np.ndarray:
        """Whether the word has a label, bool (words,)."""
        return self.label >= 0

    def measured(self, predictions: np.ndarray) -> tuple[np.ndarray, "Words"]:
        """Removes the words without a label, for metrics.

        The words before and after a removed word become neighbours, as in the examples of transformers that compute
        metrics with seqeval.

        Args:
          predictions: (words, outputs).

        Returns:
          The predictions, (labelled words, outputs), and the labelled words.
        """
        kept = self.labelled
        offsets = np.concatenate([[0], np.cumsum(kept)])[self.offsets]
        words = dataclasses.replace(self, label=self.label[kept], token=self.token[kept], offsets=offsets)
        return predictions[kept], words

    def spread(self, by_token: np.ndarray) -> np.ndarray:
        """Selects the predictions of words from the predictions of tokens.

        Args:
          by_token: (tokens, outputs).

        Returns:
          (words, outputs), NaN for a word that cannot be predicted.
        """
        predictions = by_token[np.maximum(self.token, 0)]
        predictions[~self.predictable] = np.nan
        return predictions
